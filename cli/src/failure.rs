//! Exit codes, which scripts rely on, and the errors behind them.

use std::{io, io::Write};

use protocol::{Problem, TaskState, client::ClientError, problem::Code, settings::Faults};

use crate::terminal;

/// How the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The task succeeded, or the command did what was asked.
    Succeeded,
    /// The task failed or was lost, or the command failed on this machine.
    Failed,
    /// What was typed makes no sense.
    Usage,
    /// The task's time was over.
    TimedOut,
    /// The task was cancelled.
    Cancelled,
    /// The coordinator is not there, or cannot serve now.
    Unreachable,
    /// The coordinator refused.
    Refused,
    /// The task has not ended.
    NotFinished,
    /// The configuration has faults.
    BadConfiguration,
    /// A server that `up` started ended for good with this code.
    Server(u8),
}

impl Exit {
    /// The process's exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::TimedOut => 3,
            Self::Cancelled => 4,
            Self::Unreachable => 5,
            Self::Refused => 6,
            Self::NotFinished => 7,
            Self::BadConfiguration => protocol::settings::EXIT_BAD_CONFIGURATION,
            Self::Server(code) => code,
        }
    }
}

impl From<TaskState> for Exit {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Succeeded => Self::Succeeded,
            TaskState::Failed | TaskState::Lost => Self::Failed,
            TaskState::TimedOut => Self::TimedOut,
            TaskState::Cancelled => Self::Cancelled,
            TaskState::Held
            | TaskState::Scheduled
            | TaskState::Ready
            | TaskState::Leased
            | TaskState::Running => Self::NotFinished,
        }
    }
}

/// Why a command could not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to tell: what happened and why, and on the next line what to do.
    Told {
        /// How the command ends.
        exit: Exit,
        /// One to three lines.
        text: String,
    },
    /// Who read our output has left (`… | head`), which is their right.
    ReaderGone,
}

impl Failure {
    /// Something to tell.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self::Told { exit, text: text.into() }
    }

    /// The same failure where the gateway was asked, not the coordinator.
    pub(crate) fn at_the_gateway(self) -> Self {
        match self {
            Self::Told { exit: Exit::Unreachable, text } => {
                let what = text.lines().next().unwrap_or_default();
                let remedy = "the gateway is not running, or does not serve: start it with `code-workers up`, or \
                              `systemctl --user start code-workers-gateway`";
                Self::new(Exit::Unreachable, format!("{what}\n{remedy}"))
            }
            other => other,
        }
    }

    /// What the server refused; where it did so with this code, what to do as well.
    pub(crate) fn refused(error: ClientError, code: Code, remedy: &str) -> Self {
        let known = error.code() == Some(code);
        match Self::from(error) {
            Self::Told { exit, text } if known => Self::new(exit, format!("{text}\n{remedy}")),
            other => other,
        }
    }

    /// Says it on stderr; what is left is the exit code.
    pub(crate) fn tell(self) -> Exit {
        match self {
            Self::Told { exit, text } => {
                // With stderr gone there is nobody left to tell.
                let _ = writeln!(io::stderr().lock(), "code-workers: {}", terminal::clean(&text));
                exit
            }
            Self::ReaderGone => Exit::Succeeded,
        }
    }
}

/// Of writing to stdout; other files' errors name their file instead.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::new(Exit::Failed, format!("standard output: {error}")),
        }
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::new(Exit::BadConfiguration, faults.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        if let ClientError::Refused(Problem { code: Code::UniqueKeyTaken, task: Some(holder), .. }) = &error {
            return Self::new(Exit::Refused, format!("{error}\nhow it stands: code-workers poll {holder}"));
        }
        let (exit, remedy) = match &error {
            ClientError::Unreachable { .. } => (
                Exit::Unreachable,
                "\nstart it with `code-workers up`, or name its address in COORDINATOR_URL; `code-workers doctor` looks at all",
            ),
            ClientError::Malformed { .. } => (
                Exit::Unreachable,
                "\nperhaps another program has that address; name the coordinator's in COORDINATOR_URL",
            ),
            ClientError::Refused(problem) if matches!(problem.code, Code::NoKey | Code::WrongKey) => {
                (Exit::Refused, "\nFORTRESS_API_KEY has to be the key that the coordinator runs with")
            }
            ClientError::Refused(problem) if problem.status >= 500 => (Exit::Unreachable, ""),
            ClientError::Refused(_) => (Exit::Refused, ""),
            ClientError::File { .. } => (Exit::Failed, ""),
        };
        Self::new(exit, format!("{error}{remedy}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, Failure};
    use protocol::{Code, Problem, TaskState, client::ClientError};

    #[test]
    fn the_contract_of_exit_codes() {
        let state = |state| Exit::from(state).code();
        assert_eq!(state(TaskState::Succeeded), 0);
        assert_eq!(state(TaskState::Failed), 1);
        assert_eq!(state(TaskState::Lost), 1);
        assert_eq!(Exit::Usage.code(), 2);
        assert_eq!(state(TaskState::TimedOut), 3);
        assert_eq!(state(TaskState::Cancelled), 4);
        assert_eq!(Exit::BadConfiguration.code(), 64);
        for running in TaskState::ALL.iter().filter(|state| !state.is_terminal()) {
            assert_eq!(state(*running), 7, "{running}");
        }
    }

    #[test]
    fn refusals_are_6_and_what_may_pass_is_5() {
        for &code in Code::ALL {
            let Failure::Told { exit, text } = ClientError::Refused(Problem::new(code, "why")).into() else {
                panic!("{code:?}")
            };
            assert_eq!(exit.code(), if code.status() >= 500 { 5 } else { 6 }, "{code:?}");
            assert!(text.contains("why"));
        }
        let gone = ClientError::Unreachable { server: "http://x".into(), why: "no".into() };
        assert!(matches!(Failure::from(gone), Failure::Told { exit: Exit::Unreachable, .. }));
    }
}
