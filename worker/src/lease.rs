//! Getting a task: the long-poll, and the start of the lease.

use std::{io, path::Path, time::Duration};

use protocol::{
    Code,
    client::{ClientError, LeasedClient, WorkerClient},
    ids::QueueName,
    inside::{HeldLease, LeaseNote},
    lease::{LeaseQuery, Leased, Release, Started},
    limits,
    report::Report,
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    outbox,
    report::{short, without_work},
    verdict::{RELEASED, Verdict},
    work::Service,
};

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
    /// When that was asked for: the lease lives from then on.
    pub asked: Instant,
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
    /// The sandbox is told to end.
    #[error("told to end before there was a task")]
    Drained,
    /// Nobody would learn of a task if this sandbox died with it.
    #[error("the outbox takes no lease: {0}")]
    Outbox(io::Error),
}

impl NoTask {
    /// Whether it is the worker's token that the coordinator does not take.
    #[must_use]
    pub fn is_of_the_key(&self) -> bool {
        let Self::Refused(error) = self else { return false };
        error.code().is_some_and(|code| matches!(code.status(), 401 | 403))
    }
}

/// Waits for a task and starts it, however often the coordinator is away or the start comes too late. A lease
/// is on disk, in `lease_file` (where somebody would read it), before it is started. One that is not started goes
/// back.
///
/// # Errors
/// [`NoTask`].
pub async fn begin(
    service: &Service,
    lease_file: Option<&Path>,
    drain: &CancellationToken,
) -> Result<Begun, NoTask> {
    loop {
        let leased = tokio::select! {
            biased;
            () = drain.cancelled() => return Err(NoTask::Drained),
            leased = lease(&service.client, &service.queue) => leased?,
        };
        let held = HeldLease {
            task: leased.task.id.clone(),
            token: leased.lease.token.clone(),
            attempt: leased.lease.attempt,
        };
        let client = service.client.with_lease(held.clone());
        let note = LeaseNote { lease: held.clone(), timeout_s: Some(leased.task.timeout_s) };
        if let Err(error) = lease_file.map_or(Ok(()), |file| outbox::write_whole(file, &note)) {
            give_back(&client, &format!("outbox_broken: {error}"), lease_file).await;
            return Err(NoTask::Outbox(error));
        }
        let started = tokio::select! {
            biased;
            () = drain.cancelled() => {
                give_back(&client, RELEASED, lease_file).await;
                return Err(NoTask::Drained);
            }
            started = start(&client, service.own_key.is_some()) => started,
        };
        match started {
            Ok((started, asked)) => return Ok(Begun { leased, started, asked, client, held }),
            Err(error) => tracing::info!("the lease of {} could not be started: {error}", held.task),
        }
        forget(lease_file);
        let mut rest = Backoff(Backoff::LONGEST);
        tokio::select! {
            () = drain.cancelled() => {}
            () = rest.wait() => {}
        }
    }
}

fn forget(lease_file: Option<&Path>) {
    let Some(lease_file) = lease_file else { return };
    if let Err(error) = std::fs::remove_file(lease_file)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("a lease that is over stays in the outbox: {error}");
    }
}

/// How long a lease that was not started may take to go back. The coordinator takes it back by itself soon after.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(5);

/// Gives a lease back. Where the coordinator did take the start, whose answer did not come, it is reported lost.
async fn give_back(client: &LeasedClient, reason: &str, lease_file: Option<&Path>) {
    let release = Release { reason: short(reason.to_owned()) };
    let giving = async {
        match until_answered(async || client.release(&release).await).await {
            Err(error) if error.code() == Some(Code::WrongState) => {
                let report: Report = without_work(Verdict::lost(reason));
                until_answered(async || client.result(&report).await).await.map(|_| ())
            }
            answer => answer,
        }
    };
    match timeout(GIVE_BACK_WITHIN, giving).await {
        Ok(Ok(())) => forget(lease_file),
        Ok(Err(error)) => {
            tracing::info!("the lease of {} was over: {error}", client.task());
            forget(lease_file);
        }
        // The launcher tells of the worker's end.
        Err(_) => tracing::warn!("the lease of {} could not be given back in time", client.task()),
    }
}

/// Repeats a call until it is answered; a refusal is an answer.
pub(crate) async fn until_answered<T>(
    call: impl AsyncFn() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let mut backoff = Backoff::new();
    loop {
        match call().await {
            Err(error) if error.is_passing() => backoff.wait().await,
            answer => return answer,
        }
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

async fn start(client: &LeasedClient, own_key: bool) -> Result<(Started, Instant), ClientError> {
    let mut backoff = Backoff::new();
    loop {
        let asked = Instant::now();
        let started = if own_key { client.start_with_own_key().await } else { client.start().await };
        match started {
            // The task went back to its queue.
            Err(error) if error.code() == Some(Code::GatewayUnavailable) => return Err(error),
            Err(error) if error.is_passing() => backoff.wait().await,
            answer => return answer.map(|started| (started, asked)),
        }
    }
}
