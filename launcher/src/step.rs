//! When the keeper ends its sandbox: what the launcher says, its silence, and a task that goes on for too long.
//! Pure.

use std::time::Duration;

use protocol::inside::LeaseNote;
use protocol::limits::{KILL_GRACE, SANDBOX_MARGIN, TIMEOUT_CAP};
use tokio::time::Instant;

use crate::lines::Order;

/// Time between SIGTERM and SIGKILL for a worker without a task.
const IDLE_GRACE: Duration = Duration::from_secs(3);
/// The same for one with a task: its agent's own grace, and what its worker takes at most to see the agent dead (35 s),
/// to take what there is (30 s) and to send it (5 s).
pub(crate) const BUSY_GRACE: Duration = KILL_GRACE.saturating_add(Duration::from_secs(80));

/// How long a sandbox whose report was delivered may take to end.
const LEAVE_WITHIN: Duration = Duration::from_secs(15);

/// What the keeper heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Order(Order),
    /// The end of its standard input.
    LauncherGone,
    /// Enough: end it by force.
    Kill,
}

/// What it does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait on.
    Nothing,
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// What comes when the time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Overrun(Instant),
    Kill(Instant),
}

/// What is known of a sandbox that runs.
#[derive(Debug, Default)]
pub(crate) struct Life {
    lease: Option<LeaseNote>,
    next: Option<Next>,
    overrun: bool,
    unseen: bool,
}

impl Life {
    /// Of a sandbox that has no outbox to see a lease in: it may have a task at any time.
    pub(crate) fn unseen() -> Self {
        Self { unseen: true, ..Self::default() }
    }

    /// Its worker has this lease; answers whether it is the sandbox's first. A lease that could not be started is
    /// followed by another.
    pub(crate) fn leased(&mut self, note: LeaseNote, now: Instant) -> bool {
        if self.lease.as_ref() == Some(&note) {
            return false;
        }
        // Who is on the way out gets no more time.
        if !matches!(self.next, Some(Next::Kill(_))) {
            self.next = Some(Next::Overrun(now + longest(&note)));
        }
        self.lease.replace(note).is_none()
    }

    pub(crate) fn heard(&mut self, heard: Heard, now: Instant) -> Step {
        match (heard, &self.lease) {
            (Heard::Kill, _) => {
                self.next = None;
                Step::Kill
            }
            (_, None) if self.unseen => self.end(BUSY_GRACE, now),
            (_, None) => self.end(IDLE_GRACE, now),
            (Heard::Order(Order::End), Some(_)) => self.end(BUSY_GRACE, now),
            (Heard::Order(Order::Drain) | Heard::LauncherGone, Some(_)) => Step::Nothing,
        }
    }

    /// Its worker has reported, and has nothing more to do.
    pub(crate) fn delivered(&mut self, now: Instant) {
        if !matches!(self.next, Some(Next::Kill(_))) {
            self.next = Some(Next::Kill(now + LEAVE_WITHIN));
        }
    }

    /// When [`Life::time_is_up`] is to be called.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.next.map(|(Next::Overrun(time) | Next::Kill(time))| time)
    }

    pub(crate) fn time_is_up(&mut self, now: Instant) -> Step {
        match self.next.take() {
            Some(Next::Overrun(_)) => {
                self.overrun = true;
                self.end(BUSY_GRACE, now)
            }
            Some(Next::Kill(_)) => Step::Kill,
            None => Step::Nothing,
        }
    }

    /// Whether it was ended because its task went on for too long.
    pub(crate) fn overrun(&self) -> bool {
        self.overrun
    }

    fn end(&mut self, grace: Duration, now: Instant) -> Step {
        self.next = Some(Next::Kill(now + grace));
        Step::Terminate
    }
}

/// How long a sandbox may have its task.
fn longest(note: &LeaseNote) -> Duration {
    note.timeout_s.map_or(TIMEOUT_CAP, Duration::from_secs).min(TIMEOUT_CAP) + SANDBOX_MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::inside::HeldLease;

    fn note(attempt: u32, timeout_s: Option<u64>) -> LeaseNote {
        let lease = HeldLease { task: "t".parse().unwrap(), token: protocol::Secret::new("t"), attempt };
        LeaseNote { lease, timeout_s }
    }

    #[test]
    fn an_idle_sandbox_ends_whatever_is_heard() {
        let now = Instant::now();
        for heard in [Heard::Order(Order::Drain), Heard::Order(Order::End), Heard::LauncherGone] {
            let mut life = Life::default();
            assert_eq!(life.heard(heard, now), Step::Terminate, "{heard:?}");
            assert_eq!(life.until(), Some(now + IDLE_GRACE));
            assert_eq!(life.time_is_up(now), Step::Kill);
        }
    }

    #[test]
    fn who_cannot_be_seen_into_has_the_time_of_one_with_a_task() {
        let now = Instant::now();
        let mut life = Life::unseen();
        assert_eq!(life.heard(Heard::Order(Order::Drain), now), Step::Terminate);
        assert_eq!(life.until(), Some(now + BUSY_GRACE));
    }

    #[test]
    fn a_task_is_finished_unless_its_end_is_ordered() {
        let now = Instant::now();
        let mut life = Life::default();
        assert!(life.leased(note(1, Some(60)), now));
        assert_eq!(life.heard(Heard::Order(Order::Drain), now), Step::Nothing);
        assert_eq!(life.heard(Heard::LauncherGone, now), Step::Nothing);
        assert_eq!(life.heard(Heard::Order(Order::End), now), Step::Terminate);
        assert!(!life.leased(note(2, Some(60)), now));
        assert_eq!(life.until(), Some(now + BUSY_GRACE), "no more time with another lease");
        assert_eq!(life.heard(Heard::Kill, now), Step::Kill);
    }

    #[test]
    fn a_task_that_goes_on_for_too_long_is_ended_then_killed() {
        let now = Instant::now();
        for (timeout_s, longest) in
            [(Some(60), 60), (None, TIMEOUT_CAP.as_secs()), (Some(u64::MAX), TIMEOUT_CAP.as_secs())]
        {
            let mut life = Life::default();
            life.leased(note(1, timeout_s), now);
            let due = now + Duration::from_secs(longest) + SANDBOX_MARGIN;
            life.leased(note(1, timeout_s), due);
            assert_eq!(life.until(), Some(due), "the same lease again changes nothing");
            assert!(!life.overrun());
            assert_eq!(life.time_is_up(due), Step::Terminate);
            assert!(life.overrun());
            assert_eq!(life.until(), Some(due + BUSY_GRACE));
            assert_eq!(life.time_is_up(due + BUSY_GRACE), Step::Kill);
        }
    }

    #[test]
    fn a_sandbox_that_has_reported_and_does_not_end_is_killed() {
        let now = Instant::now();
        let mut life = Life::default();
        life.leased(note(1, Some(60)), now);
        life.delivered(now);
        life.delivered(now + LEAVE_WITHIN / 2);
        assert_eq!(life.until(), Some(now + LEAVE_WITHIN), "no more time when it is seen again");
        assert_eq!(life.time_is_up(now + LEAVE_WITHIN), Step::Kill);
        assert!(!life.overrun());
    }

    #[test]
    fn the_time_of_a_lease_that_could_not_be_started_is_not_that_of_the_next() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(800));
        let mut life = Life::default();
        life.leased(note(1, Some(10)), now);
        assert!(!life.leased(note(2, Some(3_600)), later));
        assert_eq!(life.until(), Some(later + Duration::from_secs(3_600) + SANDBOX_MARGIN));
    }
}
