//! What launcher and keeper say to each other: one JSON value a line, orders down the keeper's standard input,
//! news up its standard output. The end of the input means that the launcher is gone.

use protocol::TaskId;
use protocol::report::Outcome;
use serde::{Deserialize, Serialize};

/// From the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Take no task any more; finish the one that runs.
    Drain,
    /// End now, and let the worker report what there is.
    End,
}

/// From the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum News {
    /// The sandbox runs.
    Started,
    /// Its worker has a task.
    Leased(TaskId),
    /// The sandbox has ended; what is left is to deliver and to clear away.
    Stopped(Stopped),
}

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stopped {
    /// The exit code of PID 1, or 128 + the signal; none when it never ran.
    pub(crate) exit: Option<i32>,
    /// A word: `exited`, `killed`, `oom`, `overrun` (it went on for too long), `start_failed`.
    pub(crate) reason: String,
    /// More for people: runsc's reason, or the last line that was printed.
    pub(crate) detail: Option<String>,
    /// The task that it had.
    pub(crate) task: Option<TaskId>,
    /// How its worker says that the task ended.
    pub(crate) outcome: Option<Outcome>,
}

impl Stopped {
    /// Why the sandbox ended, for people.
    pub(crate) fn why(&self) -> String {
        let exit = self.exit.map(|exit| format!(" with {exit}")).unwrap_or_default();
        let detail = self.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        format!("{}{exit}{detail}", self.reason)
    }

    /// How the task ended, for people.
    pub(crate) fn told(&self) -> String {
        match self.outcome {
            Some(Outcome::Succeeded) => "succeeded".to_owned(),
            Some(Outcome::Failed) => "failed".to_owned(),
            Some(Outcome::TimedOut) => "timed out".to_owned(),
            Some(Outcome::Cancelled) => "cancelled".to_owned(),
            Some(Outcome::Lost) => "lost".to_owned(),
            None => format!("lost, its sandbox {}", self.why()),
        }
    }
}
