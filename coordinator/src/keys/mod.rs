//! Virtual keys: asked of a gateway before an agent task starts, taken back when its attempt is over.

mod bifrost;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{
    Secret, TaskId,
    client::{AdminClient, ClientError},
    keys::{KeyUsage, MintKey},
    settings::KeySource,
};
use tokio_util::sync::CancellationToken;

use crate::queue::{Queue, StoreError};
use bifrost::Bifrost;

/// How long the gateway may take for a key. A start waits for it, and its lease lives 30 s.
const MINT: Duration = Duration::from_secs(5);
/// How long a result waits for the ledger; later the sweep asks again.
const REVOKE: Duration = Duration::from_secs(2);
/// How often keys that are left over are swept, beside at each attempt's end.
const SWEEP: Duration = Duration::from_secs(5);

/// How often keys are looked for that no attempt has, where only the gateway knows them all.
const SWEEP_ALL: Duration = Duration::from_secs(60);

/// Who makes keys.
#[derive(Clone)]
pub enum Keys {
    /// Our own gateway, at its admin door.
    Builtin(AdminClient),
    /// A Bifrost.
    #[expect(private_interfaces, reason = "made by `Keys::of` alone")]
    Bifrost(Bifrost),
    /// Nobody: workers bring their own.
    Env,
}

/// Why there is no key.
#[derive(Debug)]
pub struct NoKey {
    /// The task's reason while it waits.
    pub reason: &'static str,
    /// A sentence.
    pub why: String,
}

impl Keys {
    /// Of this source; `id` tells this coordinator from others that ask the same.
    ///
    /// # Errors
    /// When there can be no client.
    pub fn of(source: KeySource, gateway: AdminClient, id: &str) -> Result<Self, String> {
        Ok(match source {
            KeySource::Builtin => Self::Builtin(gateway),
            KeySource::Bifrost(settings) => Self::Bifrost(Bifrost::new(settings, id)?),
            KeySource::Env => Self::Env,
        })
    }

    /// Whether agents find each provider's API below its name.
    #[must_use]
    pub const fn have_provider_paths(&self) -> bool {
        matches!(self, Self::Bifrost(_))
    }

    /// A key for one attempt. Repeated, it is the same key.
    ///
    /// # Errors
    /// Why there is none now.
    pub async fn mint(&self, key: &MintKey) -> Result<Secret, NoKey> {
        let minted = async {
            match self {
                Self::Builtin(gateway) => {
                    gateway.mint(key).await.map(|minted| minted.key).map_err(|error| error.to_string())
                }
                Self::Bifrost(bifrost) => bifrost.mint(key).await,
                Self::Env => {
                    Err("key_source is \"env\", and this worker brought no key: its launcher has to put \
                                  OPENCODE_API_KEY into its environment"
                        .to_owned())
                }
            }
        };
        let minted = tokio::time::timeout(MINT, minted).await;
        let minted =
            minted.unwrap_or_else(|_| Err(format!("the gateway gave no key within {} s", MINT.as_secs())));
        let reason = if matches!(self, Self::Env) { "worker_has_no_key" } else { "gateway_unavailable" };
        minted.map_err(|why| NoKey { reason, why })
    }

    /// Takes a key back, and reads what the task's keys have used. `None` where the gateway does not answer soon.
    pub async fn revoke(&self, task: &TaskId, attempt: u32) -> Option<KeyUsage> {
        let revoked = async {
            match self {
                Self::Builtin(gateway) => match gateway.revoke(task, attempt).await {
                    Err(ClientError::Unreachable { .. }) => Ok(None),
                    answer => answer.map(Some).map_err(|error| error.to_string()),
                },
                Self::Bifrost(bifrost) => bifrost.revoke(task, attempt).await.map(Some),
                Self::Env => Ok(Some(KeyUsage::default())),
            }
        };
        match tokio::time::timeout(REVOKE, revoked).await {
            Ok(Ok(usage)) => usage,
            Ok(Err(error)) => {
                tracing::warn!(%task, attempt, %error, "a virtual key was not revoked");
                None
            }
            Err(_) => None,
        }
    }

    /// Revokes and accounts for keys of attempts that ended without it, until `stop`.
    pub async fn sweep(self, queue: Arc<Queue>, stop: CancellationToken) {
        let mut all_swept: Option<Instant> = None;
        while !stop.is_cancelled() {
            if let Self::Bifrost(bifrost) = &self
                && all_swept.is_none_or(|at| at.elapsed() >= SWEEP_ALL)
            {
                all_swept = Some(Instant::now());
                // Where it cannot be told whether an attempt lives, its key does.
                let lives = |task: &TaskId, attempt| {
                    queue.row(task).map_or(true, |row| row.is_some_and(|row| row.has_key_in(attempt)))
                };
                if let Err(error) = bifrost.sweep(lives).await {
                    tracing::warn!(%error, "keys of Bifrost's could not be swept");
                }
            }
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
