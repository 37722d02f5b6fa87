//! How many sandboxes to start, and when. Pure.

use std::time::{Duration, Instant};

/// The wait after the first failure; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Where the launcher stands.
#[derive(Debug)]
pub(crate) struct Pool {
    parallel: usize,
    /// Sandboxes that are being made, wait or work.
    alive: usize,
    /// Failures since a sandbox last took a task.
    failures: u32,
    not_before: Option<Instant>,
    draining: bool,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Start so many.
    Start(usize),
    /// Look again at this time.
    Wait(Instant),
    /// Nothing, until something happens.
    Nothing,
    /// All is over.
    Done,
}

impl Pool {
    pub(crate) fn new(parallel: usize) -> Self {
        Self { parallel, alive: 0, failures: 0, not_before: None, draining: false }
    }

    pub(crate) fn decide(&self, now: Instant) -> Decision {
        match (self.draining, self.parallel.saturating_sub(self.alive), self.not_before) {
            (true, _, _) if self.alive == 0 => Decision::Done,
            (true, _, _) | (false, 0, _) => Decision::Nothing,
            (false, _, Some(time)) if time > now => Decision::Wait(time),
            (false, missing, _) => Decision::Start(missing),
        }
    }

    /// One is being made.
    pub(crate) fn started(&mut self) {
        self.alive += 1;
    }

    /// One has a task: whatever went wrong before is over.
    pub(crate) fn took_a_task(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }

    /// One is gone, and all was well with it.
    pub(crate) fn ended(&mut self) {
        self.alive = self.alive.saturating_sub(1);
    }

    /// One is gone before it had a task. Answers how long to wait, when that is news: several that fail at once
    /// count as one failure.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.ended();
        if self.draining || self.not_before.is_some_and(|time| time > now) {
            return None;
        }
        let delay = FIRST_DELAY.saturating_mul(1 << self.failures.min(16)).min(LONGEST_DELAY);
        self.failures += 1;
        self.not_before = Some(now + delay);
        Some(delay)
    }

    /// No new ones from now on.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_as_many_as_asked_for() {
        let now = Instant::now();
        let mut pool = Pool::new(3);
        assert_eq!(pool.decide(now), Decision::Start(3));
        (0..3).for_each(|_| pool.started());
        assert_eq!(pool.decide(now), Decision::Nothing);
        pool.ended();
        assert_eq!(pool.decide(now), Decision::Start(1));
    }

    #[test]
    fn waits_longer_after_each_failure_until_a_task_is_taken() {
        let mut now = Instant::now();
        let mut pool = Pool::new(1);
        let mut delays = Vec::new();
        for _ in 0..8 {
            pool.started();
            let delay = pool.failed(now).unwrap();
            assert_eq!(pool.decide(now), Decision::Wait(now + delay));
            now += delay;
            assert_eq!(pool.decide(now), Decision::Start(1));
            delays.push(delay.as_secs());
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        pool.started();
        pool.took_a_task();
        pool.ended();
        assert_eq!(pool.decide(now), Decision::Start(1));
        pool.started();
        assert_eq!(pool.failed(now), Some(FIRST_DELAY));
    }

    #[test]
    fn sandboxes_that_fail_together_are_one_failure() {
        let now = Instant::now();
        let mut pool = Pool::new(2);
        pool.started();
        pool.started();
        assert_eq!(pool.failed(now), Some(FIRST_DELAY));
        assert_eq!(pool.failed(now), None);
        assert_eq!(pool.decide(now), Decision::Wait(now + FIRST_DELAY));
        assert_eq!(pool.decide(now + FIRST_DELAY), Decision::Start(2));
    }

    #[test]
    fn draining_starts_none_and_is_done_with_the_last() {
        let now = Instant::now();
        let mut pool = Pool::new(2);
        pool.started();
        pool.drain();
        assert_eq!(pool.decide(now), Decision::Nothing);
        assert_eq!(pool.failed(now), None);
        assert_eq!(pool.decide(now), Decision::Done);
    }
}
