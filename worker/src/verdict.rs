//! From how a run ended and what its output said to the outcome and its reason. Pure.

use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

use protocol::report::Outcome;

use crate::{agent_file::Failure, control::Stop, run::Ended};

/// What the report says of an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, unless it succeeded: a word, then perhaps a colon and a sentence.
    pub reason: Option<String>,
    /// The program's exit code; 128 + the signal's number where a signal ended it.
    pub exit_code: Option<i32>,
}

/// Words of the gateway's refusals, which the CLIs pass on in their errors.
const REFUSALS: [(&str, u64, &str); 2] = [
    ("budget_spent", 402, "the task's budget is spent: send it again with a larger one"),
    ("key_revoked", 403, "the virtual key has expired or was revoked"),
];

impl Verdict {
    /// A failure before there was anything to run.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, reason: Some(reason.into()), exit_code: None }
    }

    /// The worker's own fault or its sandbox's: the task is tried again.
    #[must_use]
    pub fn lost(reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::Lost, reason: Some(reason.into()), exit_code: None }
    }

    /// An attempt that was stopped.
    #[must_use]
    pub fn stopped(why: Stop, timeout: Duration) -> Self {
        let (outcome, reason) = match why {
            Stop::Cancelled { .. } => (Outcome::Cancelled, "cancelled".to_owned()),
            Stop::TimedOut => (
                Outcome::TimedOut,
                format!("timed_out: it ran for {} s, all that it was given", timeout.as_secs()),
            ),
            Stop::LeaseLost => {
                (Outcome::Lost, "lease_lost: the coordinator gave the task to nobody or another".to_owned())
            }
            Stop::Silence => (
                Outcome::Lost,
                "coordinator_silent: the agent was stopped before the lease ran out".to_owned(),
            ),
            Stop::Drained => (Outcome::Lost, "drained: the sandbox was told to end".to_owned()),
        };
        Self { outcome, reason: Some(reason), exit_code: None }
    }

    /// A run's end. `log_end` is the end of all output, where an agent that gave up without a word of its own
    /// may have left the gateway's.
    #[must_use]
    pub fn of(ended: Ended, failure: Option<&Failure>, log_end: &str, timeout: Duration) -> Self {
        let status = match ended {
            Ended::Stopped(why) => return Self::stopped(why, timeout),
            Ended::Exited(status) => status,
        };
        let exit_code = exit_code(status);
        let reason = match failure {
            Some(failure) => Some(refusal(failure).unwrap_or_else(|| {
                let message: String = failure.message.chars().take(1_000).collect();
                format!("agent_failed: {message}")
            })),
            None if status.success() => None,
            None => Some(refusal_in(log_end).unwrap_or_else(|| match status.signal() {
                Some(signal) => format!("killed: signal {signal} ended the program"),
                None => format!("exit_code: {}", exit_code.unwrap_or_default()),
            })),
        };
        let outcome = if reason.is_none() { Outcome::Succeeded } else { Outcome::Failed };
        Self { outcome, reason, exit_code }
    }
}

fn exit_code(status: ExitStatus) -> Option<i32> {
    status.code().or(status.signal().map(|signal| 128 + signal))
}

fn refusal(failure: &Failure) -> Option<String> {
    let by_status = REFUSALS.iter().find(|(_, status, _)| failure.status == Some(*status));
    refusal_in(&failure.line).or_else(|| by_status.map(|(word, _, what)| format!("{word}: {what}")))
}

fn refusal_in(text: &str) -> Option<String> {
    let found = REFUSALS.iter().find(|(word, ..)| text.contains(word));
    found.map(|(word, _, what)| format!("{word}: {what}"))
}
