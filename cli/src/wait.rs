//! Waiting for a task, through restarts of the coordinator.

use std::time::Duration;

use protocol::{
    Task, TaskId,
    client::{ClientError, OwnerClient},
    limits,
};
use tokio::time::Instant;

use crate::terminal;

/// A coordinator that is being restarted is waited for so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries to reach it.
const PAUSE: Duration = Duration::from_millis(500);

/// Forbearance with a coordinator that does not answer: told once an outage, and not without end.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    since: Option<Instant>,
}

impl Patience {
    /// It answered.
    pub(crate) fn restore(&mut self) {
        self.since = None;
    }

    /// Pauses before the next try; gives the error back where it will not pass, or has lasted too long.
    pub(crate) async fn bear(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_passing() {
            return Err(error);
        }
        let now = Instant::now();
        if self.since.is_none() {
            terminal::note(&format!("code-workers: {error}; trying on for {} s", PATIENCE.as_secs()));
        }
        if now.duration_since(*self.since.get_or_insert(now)) > PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

/// The task, once it has ended.
pub(crate) async fn until_ended(client: &OwnerClient, id: &TaskId) -> Result<Task, ClientError> {
    let mut patience = Patience::default();
    loop {
        match client.task(id, limits::TASK_WAIT).await {
            Ok(task) if task.state.is_terminal() => return Ok(task),
            Ok(_) => patience.restore(),
            Err(error) => patience.bear(error).await?,
        }
    }
}
