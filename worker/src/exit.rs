//! The worker's exit codes, which are its word to the launcher.

use std::process::ExitCode;

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: one task was done, and the coordinator took its report or refused it for good; or a SIGTERM came
    /// before there was a task.
    Done,
    /// 64: the command line or the worker's configuration cannot be used.
    BadConfiguration,
    /// 70: something inside the sandbox does not work (a helper, the outbox): the same would happen again.
    Broken,
    /// 75: a SIGTERM came before the report was delivered; it stands in the outbox.
    Undelivered,
    /// 77: the coordinator's door is closed to this worker for good.
    Refused,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::BadConfiguration => 64,
            Exit::Broken => 70,
            Exit::Undelivered => 75,
            Exit::Refused => 77,
        })
    }
}
