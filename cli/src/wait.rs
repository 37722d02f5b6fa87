//! Waiting for a task, through restarts of the coordinator.

use std::time::Duration;

use protocol::{
    Task, TaskId,
    client::{ClientError, OwnerClient},
    limits,
};
use tokio::time::Instant;

use crate::terminal;

/// A coordinator that answered before, and is perhaps being restarted, is waited for so long.
const LONG: Duration = Duration::from_secs(60);
/// One that has not answered yet.
const SHORT: Duration = Duration::from_secs(5);
/// Between two tries to reach it.
const PAUSE: Duration = Duration::from_millis(500);

/// Forbearance with a coordinator that does not answer: told once an outage, and not without end.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    since: Option<Instant>,
}

impl Patience {
    /// With one that has answered before.
    pub(crate) const fn long() -> Self {
        Self { limit: LONG, since: None }
    }

    /// With one that may not be there at all.
    pub(crate) const fn short() -> Self {
        Self { limit: SHORT, since: None }
    }

    /// It answered.
    pub(crate) fn restore(&mut self) {
        *self = Self::long();
    }

    /// Pauses before the next try; gives the error back where it will not pass, or has lasted too long.
    pub(crate) async fn bear(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_passing() {
            return Err(error);
        }
        let now = Instant::now();
        if self.since.is_none() {
            terminal::note(&format!("code-workers: {error}; trying on for {} s", self.limit.as_secs()));
        }
        if now.duration_since(*self.since.get_or_insert(now)) > self.limit {
            return Err(error);
        }
        pause().await;
        Ok(())
    }
}

/// The answer to a request that may be repeated: where the first is lost, it is asked for again.
pub(crate) async fn for_answer<T>(ask: impl AsyncFn() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let mut patience = Patience::short();
    let mut lost = false;
    loop {
        match ask().await {
            // What did not even take the request is not there, and has lost nothing.
            Err(error) if lost || may_have_acted(&error) => {
                lost = true;
                patience.bear(error).await?;
            }
            answer => return answer,
        }
    }
}

/// Whether the coordinator may have done what it was asked, though no answer says so.
pub(crate) fn may_have_acted(error: &ClientError) -> bool {
    let refused = |why: &str| why.starts_with("Connection refused") || why.starts_with("No such file");
    let never_sent = matches!(error, ClientError::Unreachable { why, .. } if refused(why));
    error.is_passing() && !never_sent
}

/// Before the next try.
pub(crate) async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

/// The task, once it has ended.
pub(crate) async fn until_ended(client: &OwnerClient, id: &TaskId) -> Result<Task, ClientError> {
    let mut patience = Patience::long();
    loop {
        match client.task(id, limits::TASK_WAIT).await {
            Ok(task) if task.state.is_terminal() => return Ok(task),
            Ok(_) => patience.restore(),
            Err(error) => patience.bear(error).await?,
        }
    }
}
