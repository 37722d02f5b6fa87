//! How fast a key may ask: windows of a minute, in whole seconds. Pure; the time comes with each question.

use std::collections::VecDeque;

use protocol::keys::KeyLimits;

use super::NoMoney;

const MINUTE: i64 = 60;

/// What happened in the last minute, by second. The second that is a minute old counts in full, so that no
/// minute at all has more than it may.
#[derive(Debug, Clone, Default)]
struct Window {
    seconds: VecDeque<(i64, u64)>,
    sum: u64,
}

impl Window {
    fn forget(&mut self, now: i64) {
        while let Some((second, count)) = self.seconds.front()
            && *second < now - MINUTE
        {
            self.sum = self.sum.saturating_sub(*count);
            self.seconds.pop_front();
        }
    }

    fn add(&mut self, now: i64, count: u64) {
        self.forget(now);
        self.sum = self.sum.saturating_add(count);
        match self.seconds.back_mut() {
            // A clock that was set back does not begin a second anew.
            Some((second, there)) if *second >= now => *there = there.saturating_add(count),
            _ => self.seconds.push_back((now, count)),
        }
    }

    /// Seconds until less than `limit` is in the window; 0 where it is so now.
    fn wait(&mut self, limit: u64, now: i64) -> u16 {
        self.forget(now);
        let mut left = self.sum;
        for (second, count) in &self.seconds {
            if left < limit {
                break;
            }
            left = left.saturating_sub(*count);
            if left < limit {
                return u16::try_from(second + MINUTE + 1 - now).unwrap_or(u16::MAX).max(1);
            }
        }
        if left < limit { 0 } else { 60 }
    }
}

/// A key's requests of late.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    requests: Window,
    tokens: Window,
    under_way: u32,
}

impl Pace {
    /// Whether a request may begin now.
    pub(super) fn allows(&mut self, limits: &KeyLimits, model: &str, now: i64) -> Result<(), NoMoney> {
        if !limits.models.is_empty() && !limits.models.iter().any(|glob| fits(glob, model)) {
            return Err(NoMoney::Model { allowed: limits.models.join(", ") });
        }
        if let Some(most) = limits.concurrent
            && self.under_way >= most
        {
            // When one of them ends is not known.
            let what = "requests at once";
            return Err(NoMoney::Pace { limit: most.into(), what, retry_after_s: 1 });
        }
        let requests = limits.requests_per_minute.map(u64::from);
        let windows = [
            (requests, &mut self.requests, "requests a minute"),
            (limits.tokens_per_minute, &mut self.tokens, "tokens a minute"),
        ];
        for (limit, window, what) in windows {
            let Some(limit) = limit else { continue };
            let retry_after_s = window.wait(limit, now);
            if retry_after_s > 0 {
                return Err(NoMoney::Pace { limit, what, retry_after_s });
            }
        }
        Ok(())
    }

    /// A request begins. Only what is limited is remembered.
    pub(super) fn begins(&mut self, limits: &KeyLimits, now: i64) {
        self.under_way += 1;
        if limits.requests_per_minute.is_some() {
            self.requests.add(now, 1);
        }
    }

    /// A request has ended, and took so many tokens.
    pub(super) fn ends(&mut self, limits: &KeyLimits, tokens: u64, now: i64) {
        self.under_way = self.under_way.saturating_sub(1);
        if limits.tokens_per_minute.is_some() && tokens > 0 {
            self.tokens.add(now, tokens);
        }
    }
}

/// Whether a model's name is of this form, in which `*` stands for anything.
fn fits(glob: &str, model: &str) -> bool {
    let Some((head, rest)) = glob.split_once('*') else { return glob == model };
    let Some(mut model) = model.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return model.ends_with(part);
        }
        // The first place is the best: what follows has the most left to fit into.
        let Some(at) = model.find(part) else { return false };
        model = &model[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, proptest};

    #[test]
    fn a_star_stands_for_anything() {
        for (glob, model, wanted) in [
            ("gpt-5.1", "gpt-5.1", true),
            ("gpt-5.1", "gpt-5.10", false),
            ("*", "", true),
            ("claude-*", "claude-haiku-4-5", true),
            ("claude-*", "gpt-5", false),
            ("*-haiku-*", "claude-haiku-4-5", true),
            ("a*ab", "aab", true),
            ("a*ab", "ab", false),
            ("*a*a", "a", false),
        ] {
            assert_eq!(fits(glob, model), wanted, "{glob} {model}");
        }
    }

    fn pace(requests: u32) -> KeyLimits {
        KeyLimits { requests_per_minute: Some(requests), ..KeyLimits::default() }
    }

    #[test]
    fn tokens_are_counted_when_they_are_known() {
        let limits = KeyLimits { tokens_per_minute: Some(100), ..KeyLimits::default() };
        let mut pace = Pace::default();
        for now in [0, 10] {
            assert_eq!(pace.allows(&limits, "m", now), Ok(()));
            pace.begins(&limits, now);
        }
        pace.ends(&limits, 99, 20);
        assert_eq!(pace.allows(&limits, "m", 20), Ok(()));
        pace.ends(&limits, 1, 30);
        let refused = NoMoney::Pace { limit: 100, what: "tokens a minute", retry_after_s: 51 };
        assert_eq!(pace.allows(&limits, "m", 30), Err(refused));
        assert_eq!(pace.allows(&limits, "m", 81), Ok(()));
    }

    #[test]
    fn so_many_at_once() {
        let limits = KeyLimits { concurrent: Some(1), ..KeyLimits::default() };
        let mut pace = Pace::default();
        pace.begins(&limits, 0);
        assert!(pace.allows(&limits, "m", 500).is_err());
        pace.ends(&limits, 0, 500);
        assert!(pace.allows(&limits, "m", 500).is_ok());
    }

    proptest! {
        #[test]
        fn no_minute_has_more_than_it_may_and_retry_after_is_honest(
            limit in 1_u32..5, steps in proptest::collection::vec(0_i64..40, 1..60),
        ) {
            let (limits, mut pace, mut now, mut began) = (pace(limit), Pace::default(), 1_000, Vec::new());
            for step in steps {
                now += step;
                match pace.allows(&limits, "m", now) {
                    Ok(()) => {
                        pace.begins(&limits, now);
                        began.push(now);
                    }
                    Err(NoMoney::Pace { retry_after_s, .. }) => {
                        let then = now + i64::from(retry_after_s);
                        prop_assert!(pace.clone().allows(&limits, "m", then).is_ok());
                        prop_assert!(pace.clone().allows(&limits, "m", then - 1).is_err());
                    }
                    Err(other) => prop_assert!(false, "{other}"),
                }
                let minute = began.iter().filter(|&&at| at >= now - MINUTE).count();
                prop_assert!(minute <= limit as usize);
            }
        }
    }
}
