//! Getting a task: the long-poll, and the start of the lease.

use std::{path::Path, time::Duration};

use protocol::{
    Code,
    client::{ClientError, LeasedClient, WorkerClient},
    ids::QueueName,
    inside::{HeldLease, LeaseNote},
    lease::{LeaseQuery, Leased, Started},
    limits,
};
use uuid::Uuid;

use crate::outbox;

/// Waits between tries: from 0.1 s, doubling, to 2 s.
#[derive(Debug, Clone, Copy)]
pub struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);

    /// Before the first try.
    #[must_use]
    pub fn new() -> Self {
        Self(Self::FIRST)
    }

    /// Waits, the next time longer.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

/// A lease that was started: from here on the attempt counts.
pub struct Begun {
    /// The task and the lease.
    pub leased: Leased,
    /// What the start brought.
    pub started: Started,
    /// For all calls about it.
    pub client: LeasedClient,
    /// What stands in the outbox.
    pub held: HeldLease,
}

/// Why there will be no task.
#[derive(Debug, thiserror::Error)]
pub enum NoTask {
    /// The coordinator refuses this worker.
    #[error("the coordinator takes no leases from this worker: {0}")]
    Refused(ClientError),
}

/// Waits for a task and starts it, however often the coordinator is away or the start comes too late. A lease
/// is on disk, in `lease_file`, before it is started, unless the disk takes nothing.
///
/// # Errors
/// [`NoTask`].
pub async fn begin(client: &WorkerClient, queue: &QueueName, lease_file: &Path) -> Result<Begun, NoTask> {
    loop {
        let leased = lease(client, queue).await?;
        let held = HeldLease {
            task: leased.task.id.clone(),
            token: leased.lease.token.clone(),
            attempt: leased.lease.attempt,
        };
        let note = LeaseNote { lease: held.clone(), timeout_s: Some(leased.task.timeout_s) };
        if let Err(error) = outbox::write_whole(lease_file, &note) {
            tracing::warn!(
                "the launcher does not learn of {}: the outbox takes no lease: {error}",
                held.task
            );
        }
        let client = client.with_lease(held.clone());
        match start(&client).await {
            Ok(started) => return Ok(Begun { leased, started, client, held }),
            Err(error) => tracing::info!("the lease of {} could not be started: {error}", held.task),
        }
        if let Err(error) = std::fs::remove_file(lease_file) {
            tracing::warn!("the lease of {} stays in the outbox: {error}", held.task);
        }
        Backoff(Backoff::LONGEST).wait().await;
    }
}

async fn lease(client: &WorkerClient, queue: &QueueName) -> Result<Leased, NoTask> {
    // The same through all repetitions: an answer that was lost is given again.
    let query = LeaseQuery { request_id: Uuid::new_v4(), wait: limits::LEASE_WAIT.as_secs() };
    let (mut backoff, mut said) = (Backoff::new(), false);
    loop {
        match client.lease(queue, &query).await {
            Ok(Some(leased)) => return Ok(leased),
            Ok(None) => (backoff, said) = (Backoff::new(), false),
            Err(error) if error.is_passing() => {
                if !said {
                    tracing::warn!("waiting for the coordinator: {error}");
                    said = true;
                }
                backoff.wait().await;
            }
            Err(error) => return Err(NoTask::Refused(error)),
        }
    }
}

async fn start(client: &LeasedClient) -> Result<Started, ClientError> {
    let mut backoff = Backoff::new();
    loop {
        match client.start().await {
            // The task went back to its queue.
            Err(error) if error.code() == Some(Code::GatewayUnavailable) => return Err(error),
            Err(error) if error.is_passing() => backoff.wait().await,
            answer => return answer,
        }
    }
}
