//! From how a run ended and what its output said to the outcome and its reason. Pure.

use std::{os::unix::process::ExitStatusExt as _, time::Duration};

use protocol::report::{Limit, Outcome};

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
const REFUSALS: [(&str, &str, &str); 6] = [
    (
        "what the repository may spend today",
        "budget_spent",
        "what the repository may spend today is spent: set more with `code-workers budget set repo`, or wait until tomorrow (UTC)",
    ),
    (
        "what may be spent today",
        "budget_spent",
        "what may be spent today is spent: set more with `code-workers budget set day`, or wait until tomorrow (UTC)",
    ),
    ("budget_spent", "budget_spent", SPENT),
    ("key_revoked", "key_revoked", REVOKED),
    // Bifrost's.
    ("budget_exceeded", "budget_spent", SPENT),
    ("virtual_key_blocked", "key_revoked", REVOKED),
];
const SPENT: &str = "the task's budget is spent: send it again with a larger one";
const REVOKED: &str = "the virtual key has expired or was revoked";

/// Why a worker gives a task back that it could have done.
pub const RELEASED: &str = "released: its launcher was stopped";

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

    /// The same end, of which the results could not be taken in this time: nobody is to believe that all is there.
    #[must_use]
    pub fn without_results(self, within: Duration) -> Self {
        let late = format!("results_too_slow: not all results were taken within {} s", within.as_secs());
        let outcome = if self.outcome == Outcome::Succeeded { Outcome::Failed } else { self.outcome };
        let reason = self.reason.map_or_else(|| late.clone(), |reason| format!("{reason}; {late}"));
        Self { outcome, reason: Some(reason), ..self }
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
            Stop::Drained => (Outcome::Lost, RELEASED.to_owned()),
            Stop::Limit(limit) => (Outcome::Failed, at_limit(limit)),
        };
        Self { outcome, reason: Some(reason), exit_code: None }
    }

    /// A run's end.
    #[must_use]
    pub fn of(ended: Ended, failure: Option<&Failure>, timeout: Duration) -> Self {
        let status = match ended {
            Ended::Stopped(why) => return Self::stopped(why, timeout),
            Ended::Exited(status) => status,
        };
        let exit_code = status.code().or(status.signal().map(|signal| 128 + signal));
        let reason = match (failure, status.signal()) {
            (Some(failure), _) => Some(agent_failed(failure)),
            (None, Some(signal)) => Some(format!("killed: signal {signal} ended the program")),
            (None, None) if status.success() => None,
            (None, None) => Some(format!("exit_code: {}", exit_code.unwrap_or_default())),
        };
        let outcome = if reason.is_none() { Outcome::Succeeded } else { Outcome::Failed };
        Self { outcome, reason, exit_code }
    }
}

fn at_limit(limit: Limit) -> String {
    let what = match limit {
        Limit::Memory => {
            ": the agent was ended when it had used up the sandbox's memory (`sandbox.memory_mb`)"
        }
        Limit::Files => ": the agent was ended when /work had as many files as it may (`sandbox.work_files`)",
        Limit::Processes | Limit::OpenFiles | Limit::Disk | Limit::Output | Limit::Time => "",
    };
    format!("limit_{limit}{what}")
}

fn agent_failed(failure: &Failure) -> String {
    match REFUSALS.iter().find(|(said, ..)| failure.line.contains(said)) {
        Some((_, word, what)) => format!("{word}: {what}"),
        None => format!("agent_failed: {}", failure.message.chars().take(1_000).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;

    use super::*;

    /// wait(2): the code in the second byte, the signal in the first.
    fn exited(code: i32) -> Ended {
        Ended::Exited(ExitStatus::from_raw(code << 8))
    }

    fn failure(line: &str) -> Failure {
        Failure { message: "API Error: 402".to_owned(), line: line.to_owned() }
    }

    fn of(ended: Ended, failure: Option<&Failure>) -> (Outcome, Option<String>, Option<i32>) {
        let verdict = Verdict::of(ended, failure, Duration::from_secs(9));
        (verdict.outcome, verdict.reason, verdict.exit_code)
    }

    #[test]
    fn an_agent_that_says_that_it_failed_has_failed_whatever_its_exit_code() {
        let (outcome, reason, code) = of(exited(0), Some(&failure("{}")));
        assert_eq!((outcome, code), (Outcome::Failed, Some(0)));
        assert_eq!(reason.unwrap(), "agent_failed: API Error: 402");
        assert_eq!(of(exited(0), None), (Outcome::Succeeded, None, Some(0)));
        assert_eq!(of(exited(137), None), (Outcome::Failed, Some("exit_code: 137".to_owned()), Some(137)));
    }

    #[test]
    fn the_account_above_the_task_that_is_spent_is_named() {
        for (told, named) in [
            ("the rest of what the repository may spend today does not cover this", "the repository"),
            ("the rest of what may be spent today does not cover this", "budget set day"),
            ("the rest of the budget does not cover this", "the task's budget"),
        ] {
            let reason = of(exited(1), Some(&failure(&format!("budget_spent: {told}")))).1.unwrap();
            assert!(reason.starts_with("budget_spent: ") && reason.contains(named), "{reason}");
        }
    }

    #[test]
    fn what_the_gateway_refused_is_told_by_its_own_word() {
        for (said, word) in [
            ("budget_spent", "budget_spent"),
            ("key_revoked", "key_revoked"),
            ("budget_exceeded", "budget_spent"),
            ("virtual_key_blocked", "key_revoked"),
        ] {
            let line = format!(r#"{{"message":"unexpected status: {said}: …"}}"#);
            let reason = of(exited(1), Some(&failure(&line))).1.unwrap();
            assert!(reason.starts_with(&format!("{word}: ")), "{reason}");
        }
    }

    #[test]
    fn results_that_are_not_all_there_are_no_success_and_hide_no_other_reason() {
        let late =
            |code| Verdict::of(exited(code), None, Duration::ZERO).without_results(Duration::from_secs(7));
        let reason = |code| late(code).reason.unwrap();
        assert_eq!((late(0).outcome, late(0).exit_code), (Outcome::Failed, Some(0)));
        assert!(reason(0).starts_with("results_too_slow: ") && reason(0).contains("7 s"), "{}", reason(0));
        assert!(reason(3).starts_with("exit_code: 3; results_too_slow: "), "{}", reason(3));
    }

    #[test]
    fn a_signal_and_a_stop_are_told_apart() {
        let (outcome, reason, code) = of(Ended::Exited(ExitStatus::from_raw(9)), None);
        assert_eq!((outcome, code), (Outcome::Failed, Some(137)));
        assert!(reason.unwrap().starts_with("killed: signal 9"));
        let (outcome, reason, _) = of(Ended::Stopped(Stop::TimedOut), Some(&failure("budget_spent")));
        assert_eq!(outcome, Outcome::TimedOut);
        assert!(reason.unwrap().contains("9 s"));
    }
}
