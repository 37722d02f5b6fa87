//! Moments that are known only to lie between two others.

/// How long one test may take by the machine's own clock.
const SLACK: u64 = 15;

/// A moment in here. Nothing is promised of what happens within; a span that begins where it ends is a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    from: u64,
    to: u64,
}

impl Span {
    /// Long over.
    pub(crate) const NONE: Self = Self { from: 0, to: 0 };

    pub(crate) const fn between(from: u64, to: u64) -> Self {
        Self { from, to }
    }

    pub(crate) const fn at(time: u64) -> Self {
        Self { from: time, to: time }
    }

    /// This long after a moment that the machine's clock told.
    pub(crate) const fn about(time: u64) -> Self {
        Self { from: time, to: time + SLACK }
    }

    /// A moment that the machine's clock is compared with.
    pub(crate) const fn not_before(time: u64) -> Self {
        Self { from: time.saturating_sub(SLACK), to: time }
    }

    pub(crate) const fn later(self, seconds: u64) -> Self {
        Self { from: self.from + seconds, to: self.to + seconds }
    }

    pub(crate) const fn is_over(self, now: u64) -> bool {
        self.to <= now
    }

    pub(crate) const fn has_begun(self, now: u64) -> bool {
        self.from <= now
    }

    pub(crate) const fn is_unsure(self, now: u64) -> bool {
        self.from <= now && now < self.to
    }
}

/// What the clock shows that the lease verb reads.
pub(crate) const fn lease_clock(now: u64) -> u64 {
    now
}
