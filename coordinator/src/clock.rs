//! What time it is: the wall clock as it stood at the start, carried on by the clock that nobody sets.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// A clock that never goes back and never jumps, so that setting the machine's clock ends no lease.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    since: Instant,
}

impl Clock {
    /// A clock that shows the machine's time now.
    #[must_use]
    pub fn start() -> Self {
        Self::showing(Timestamp::now())
    }

    /// A clock that shows this time now.
    #[must_use]
    pub fn showing(wall: Timestamp) -> Self {
        Self { wall, since: Instant::now() }
    }

    /// A clock that shows `wall` at the moment `since`, and before it.
    #[must_use]
    pub const fn at(wall: Timestamp, since: Instant) -> Self {
        Self { wall, since }
    }

    /// Now, to the millisecond, which is what the database keeps.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        SignedDuration::try_from(self.since.elapsed())
            .ok()
            .and_then(|elapsed| self.wall.checked_add(elapsed).ok())
            .and_then(|now| Timestamp::from_millisecond(now.as_millisecond()).ok())
            .unwrap_or(self.wall)
    }
}
