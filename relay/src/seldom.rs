//! What would be said again and again is said now and then, with how often it was not. Pure.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two.
const BETWEEN: Duration = Duration::from_secs(10);

/// One thing to say.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    kept: u64,
}

impl Seldom {
    /// Whether it is to be said now, and how often it was kept back since it was.
    pub(crate) fn say(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN) {
            said.kept += 1;
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_times_are_two_and_all_are_counted() {
        let (seldom, begun) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.say(begun), Some(0));
        let again = (0..1000).filter_map(|ms| seldom.say(begun + Duration::from_millis(ms)));
        assert_eq!(again.count(), 0);
        assert_eq!(seldom.say(begun + BETWEEN), Some(1000));
        assert_eq!(seldom.say(begun + 2 * BETWEEN), Some(0));
    }
}
