//! What a keeper does when the launcher speaks or falls silent. Pure.

use std::time::Duration;

use protocol::limits::{KILL_GRACE, TIMEOUT_CAP};

use crate::lines::Order;

/// Time between SIGTERM and SIGKILL for a worker without a task.
const IDLE_GRACE: Duration = Duration::from_secs(3);
/// The same for one with a task: its agent's own grace, and a minute to commit, upload and report.
const BUSY_GRACE: Duration = KILL_GRACE.saturating_add(Duration::from_secs(60));
/// How long a sandbox whose launcher is gone may go on: no task may run longer.
const ORPHAN: Duration = TIMEOUT_CAP.saturating_add(BUSY_GRACE);

/// What the keeper heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Order(Order),
    /// The end of its standard input.
    LauncherGone,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait on.
    Nothing,
    /// SIGTERM now, SIGKILL after this time.
    End(Duration),
    /// SIGTERM after this time.
    EndLater(Duration),
}

pub(crate) fn step(heard: Heard, has_task: bool) -> Step {
    match (heard, has_task) {
        (_, false) => Step::End(IDLE_GRACE),
        (Heard::Order(Order::End), true) => Step::End(BUSY_GRACE),
        (Heard::Order(Order::Drain), true) => Step::Nothing,
        (Heard::LauncherGone, true) => Step::EndLater(ORPHAN),
    }
}

/// What follows when that time is over.
pub(crate) fn grace() -> Duration {
    BUSY_GRACE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_sandbox_ends_whatever_is_heard() {
        for heard in [Heard::Order(Order::Drain), Heard::Order(Order::End), Heard::LauncherGone] {
            assert_eq!(step(heard, false), Step::End(IDLE_GRACE), "{heard:?}");
        }
    }

    #[test]
    fn a_task_is_finished_unless_its_end_is_ordered() {
        assert_eq!(step(Heard::Order(Order::Drain), true), Step::Nothing);
        assert_eq!(step(Heard::Order(Order::End), true), Step::End(BUSY_GRACE));
        assert_eq!(step(Heard::LauncherGone, true), Step::EndLater(ORPHAN));
    }
}
