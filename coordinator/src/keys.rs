//! Virtual keys: asked of the gateway before an agent task starts, taken back when its attempt is over.

use std::{sync::Arc, time::Duration};

use protocol::{
    Secret, TaskId,
    client::{AdminClient, ClientError},
    keys::{KeyUsage, MintKey},
};
use tokio_util::sync::CancellationToken;

use crate::queue::{Queue, StoreError};

/// How long the gateway may take for a key. A start waits for it, and its lease lives 30 s.
const MINT: Duration = Duration::from_secs(5);
/// How long a result waits for the ledger; later the sweep asks again.
const REVOKE: Duration = Duration::from_secs(2);
/// How often keys that are left over are swept, beside at each attempt's end.
const SWEEP: Duration = Duration::from_secs(5);

/// The gateway's admin door.
#[derive(Clone)]
pub struct Keys {
    gateway: AdminClient,
}

impl Keys {
    /// Over this client.
    #[must_use]
    pub const fn new(gateway: AdminClient) -> Self {
        Self { gateway }
    }

    /// A key for one attempt. Repeated, it is the same key.
    ///
    /// # Errors
    /// A sentence: why there is none now.
    pub async fn mint(&self, key: &MintKey) -> Result<Secret, String> {
        match tokio::time::timeout(MINT, self.gateway.mint(key)).await {
            Ok(Ok(minted)) => Ok(minted.key),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the gateway gave no key within {} s", MINT.as_secs())),
        }
    }

    /// Takes a key back, and reads what the task's keys have used. `None` where the gateway does not answer soon.
    pub async fn revoke(&self, task: &TaskId, attempt: u32) -> Option<KeyUsage> {
        match tokio::time::timeout(REVOKE, self.gateway.revoke(task, attempt)).await {
            Ok(Ok(usage)) => Some(usage),
            Ok(Err(error)) => {
                let level_is_low = matches!(error, ClientError::Unreachable { .. });
                if !level_is_low {
                    tracing::warn!(%task, attempt, %error, "a virtual key was not revoked");
                }
                None
            }
            Err(_) => None,
        }
    }

    /// Revokes and accounts for keys of attempts that ended without it, until `stop`.
    pub async fn sweep(self, queue: Arc<Queue>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.sweep_once(&queue).await {
                tracing::warn!(%error, "virtual keys could not be swept");
            }
            tokio::select! {
                () = queue.wake().keys().notified() => {}
                () = tokio::time::sleep(SWEEP) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn sweep_once(&self, queue: &Queue) -> Result<(), StoreError> {
        for (task, attempt) in queue.unsettled_keys()? {
            let Some(usage) = self.revoke(&task, attempt).await else { return Ok(()) };
            match queue.settle(task.clone(), attempt, usage).await {
                Err(StoreError::Damaged(why)) => tracing::error!(%task, why, "what it used is not known"),
                settled => settled?,
            }
        }
        Ok(())
    }
}
