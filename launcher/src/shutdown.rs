//! What a launcher does that was told to stop, and when. Pure.
//!
//! All is over within `launcher.drain_s` + [`ENDS_WITHIN`]: tasks run on for the first, and have the second to come to
//! an end, be brought home and be told of. What is not done then (a coordinator that is away) stays with the keepers,
//! or with the next launcher of the queue.

use std::time::{Duration, Instant};

use crate::step::BUSY_GRACE;

/// How long sandboxes that are told to end may take until their launcher leaves them to their keepers: what a task has,
/// and time to clear away and to deliver.
pub(crate) const ENDS_WITHIN: Duration = BUSY_GRACE.saturating_add(Duration::from_secs(30));

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    /// Idle sandboxes end, tasks run on.
    Drain,
    /// Tasks end, with what they have.
    End,
    /// The launcher ends, the keepers go on.
    Leave,
}

/// How far it is.
#[derive(Debug)]
pub(crate) struct Shutdown {
    drain: Duration,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    NotTold,
    Draining { end_at: Instant },
    Ending { leave_at: Instant },
}

impl Shutdown {
    /// Tasks may run on for so long.
    pub(crate) fn new(drain: Duration) -> Self {
        Self { drain, stage: Stage::NotTold }
    }

    /// A signal came, while so many tasks run.
    pub(crate) fn signal(&mut self, working: usize, now: Instant) -> Action {
        match self.stage {
            Stage::NotTold => {
                self.stage = Stage::Draining { end_at: now + self.drain };
                Action::Drain
            }
            Stage::Draining { .. } if working > 0 => self.end(now),
            Stage::Draining { .. } | Stage::Ending { .. } => Action::Leave,
        }
    }

    /// So many tasks run now: without one, only what is left is to be cleared away.
    pub(crate) fn working(&mut self, working: usize, now: Instant) {
        if working == 0 && matches!(self.stage, Stage::Draining { .. }) {
            self.end(now);
        }
    }

    /// When [`Shutdown::time_is_up`] is to be called.
    pub(crate) fn until(&self) -> Option<Instant> {
        match self.stage {
            Stage::NotTold => None,
            Stage::Draining { end_at: time } | Stage::Ending { leave_at: time } => Some(time),
        }
    }

    pub(crate) fn time_is_up(&mut self, now: Instant) -> Action {
        match self.stage {
            Stage::Draining { end_at } if end_at <= now => self.end(now),
            Stage::Ending { leave_at } if leave_at <= now => Action::Leave,
            _ => Action::Nothing,
        }
    }

    fn end(&mut self, now: Instant) -> Action {
        self.stage = Stage::Ending { leave_at: now + ENDS_WITHIN };
        Action::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(600);

    #[test]
    fn tasks_run_on_for_the_time_that_is_set_then_end_then_are_left() {
        let now = Instant::now();
        let mut shutdown = Shutdown::new(DRAIN);
        assert_eq!((shutdown.until(), shutdown.time_is_up(now)), (None, Action::Nothing));
        assert_eq!(shutdown.signal(1, now), Action::Drain);
        shutdown.working(1, now);
        let end = shutdown.until().unwrap();
        assert_eq!(end, now + DRAIN);
        assert_eq!(shutdown.time_is_up(now), Action::Nothing);
        assert_eq!(shutdown.time_is_up(end), Action::End);
        let leave = shutdown.until().unwrap();
        assert_eq!(leave, end + ENDS_WITHIN);
        assert_eq!(shutdown.time_is_up(leave), Action::Leave);
    }

    #[test]
    fn each_further_signal_goes_one_step_on() {
        let now = Instant::now();
        let mut shutdown = Shutdown::new(DRAIN);
        let actions = [2, 2, 2].map(|working| shutdown.signal(working, now));
        assert_eq!(actions, [Action::Drain, Action::End, Action::Leave]);
        let mut idle = Shutdown::new(DRAIN);
        assert_eq!([0, 0].map(|working| idle.signal(working, now)), [Action::Drain, Action::Leave]);
    }

    #[test]
    fn without_a_task_only_the_clearing_away_is_waited_for() {
        let now = Instant::now();
        let mut shutdown = Shutdown::new(DRAIN);
        shutdown.working(0, now);
        assert_eq!(shutdown.until(), None, "nobody told it to stop");
        let _ = shutdown.signal(0, now);
        shutdown.working(0, now);
        assert_eq!(shutdown.until(), Some(now + ENDS_WITHIN));
    }
}
