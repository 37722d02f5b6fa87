//! Why an attempt is stopped from outside, told once to all who must know.

use std::time::Duration;

use protocol::{limits, report::Limit};
use tokio::sync::watch;

/// Why the agent has to stop before it has ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The owner cancelled the task.
    Cancelled {
        /// Between SIGTERM and SIGKILL.
        grace: Duration,
    },
    /// The lease is another's, or nobody's.
    LeaseLost,
    /// The coordinator was not heard for so long that it may give the task away.
    Silence,
    /// The sandbox is told to end.
    Drained,
    /// The attempt's run time is over.
    TimedOut,
    /// The sandbox is nearly full.
    Limit(Limit),
}

impl Stop {
    /// How long the agent has between SIGTERM and SIGKILL.
    #[must_use]
    pub fn grace(self) -> Duration {
        match self {
            Self::Cancelled { grace } => grace,
            Self::TimedOut | Self::Drained => limits::KILL_GRACE,
            // Another worker may begin on the same task at any moment.
            Self::LeaseLost | Self::Silence => Duration::ZERO,
            // What fills the sandbox goes on meanwhile.
            Self::Limit(_) => Duration::ZERO,
        }
    }
}

/// Tells of the first reason to stop. A later one changes nothing, but that one without a grace ends the grace of
/// the first.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Said>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Said {
    why: Option<Stop>,
    at_once: bool,
}

impl Stopper {
    /// One that has not spoken.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(Said::default()))
    }

    /// Says why, unless it was said before.
    pub fn stop(&self, why: Stop) {
        self.0.send_if_modified(|said| {
            let before = *said;
            said.why.get_or_insert(why);
            said.at_once |= why.grace().is_zero();
            *said != before
        });
    }

    /// What was said so far.
    #[must_use]
    pub fn said(&self) -> Option<Stop> {
        self.0.borrow().why
    }

    /// Whether there is no grace, or none any more.
    #[must_use]
    pub fn is_at_once(&self) -> bool {
        self.0.borrow().at_once
    }

    /// Waits until it speaks.
    pub async fn stopped(&self) -> Stop {
        self.wait_for(|said| said.why).await
    }

    /// Waits until there is no grace any more.
    pub async fn at_once(&self) {
        self.wait_for(|said| said.at_once.then_some(())).await;
    }

    async fn wait_for<T>(&self, found: impl Fn(&Said) -> Option<T>) -> T {
        let mut receiver = self.0.subscribe();
        loop {
            if let Some(found) = found(&receiver.borrow_and_update()) {
                return found;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Default for Stopper {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_is_the_one_that_counts_for_whoever_asks_when() {
        let stopper = Stopper::new();
        let (early, ()) = tokio::join!(stopper.stopped(), async {
            tokio::task::yield_now().await;
            stopper.stop(Stop::TimedOut);
            assert!(!stopper.is_at_once());
            stopper.stop(Stop::LeaseLost);
        });
        assert_eq!((early, stopper.stopped().await), (Stop::TimedOut, Stop::TimedOut));
        stopper.at_once().await;
    }
}
