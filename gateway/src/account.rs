//! An account's arithmetic: pure, in nano-dollars.
//!
//! Invariant: what has been promised to requests under way (`held`) and what is charged (`spent`) are never
//! promised again; a grant fits into what both leave of the limit of every account on its path.

use protocol::Usd;

use crate::{prices::Rates, tokens::Tokens};

/// What may be spent, and how much of it is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// The most that may be spent; none is without a limit.
    pub limit: Option<Usd>,
    /// Charged.
    pub spent: Usd,
    /// Held for requests under way.
    pub held: Usd,
}

/// More than anything costs, and small enough to be added to.
const ENDLESS: Usd = Usd::from_nanos(u64::MAX / 4);

impl Account {
    /// What is spent or promised.
    #[must_use]
    pub const fn used(&self) -> Usd {
        self.spent.saturating_add(self.held)
    }

    /// What is neither spent nor held.
    #[must_use]
    pub fn free(&self) -> Usd {
        self.limit.unwrap_or(ENDLESS).saturating_sub(self.used())
    }

    /// What is not spent, though some of it may be held.
    #[must_use]
    pub fn unspent(&self) -> Usd {
        self.limit.unwrap_or(ENDLESS).saturating_sub(self.spent)
    }

    /// Gives back a hold and charges what became of it.
    pub const fn settle(&mut self, held: Usd, charged: Usd) {
        self.held = self.held.saturating_sub(held);
        self.spent = self.spent.saturating_add(charged);
    }

    /// Which of the marks (in percent of the limit) is passed, the highest of them; 0 for none.
    #[must_use]
    pub fn mark(&self) -> u8 {
        let Some(limit) = self.limit else { return 0 };
        let reached = |percent: u8| {
            u128::from(self.spent.nanos()) * 100 >= u128::from(limit.nanos()) * u128::from(percent)
        };
        MARKS.into_iter().rev().find(|&percent| reached(percent)).unwrap_or(0)
    }
}

/// Where an account's owner is told, in percent of its limit.
pub const MARKS: [u8; 2] = [80, 95];

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// To be charged.
    pub amount: Usd,
    /// As reported.
    pub tokens: Tokens,
    /// Whether the model answered (or may have).
    pub reached_model: bool,
}

/// What a request may need at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// No more tokens go in than this.
    pub input_bound: u64,
    /// Tokens of output that the client wants.
    pub output_wanted: u64,
    /// With fewer than this the answer would be of no use.
    pub output_floor: u64,
    /// The rates at `input_bound`.
    pub rates: Rates,
}

/// What a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Tokens of output that it may ask the model for.
    pub output_tokens: u64,
    /// What is held for it.
    pub amount: Usd,
}

/// An account that does not cover a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// Which of the path, from 0.
    pub at: usize,
    /// Whether the request would fit if nothing were held.
    pub in_the_end: bool,
}

/// Fits a request into every account of a path.
///
/// # Errors
/// The first that does not cover it.
pub fn decide_path(path: &[Account], ask: &Ask) -> Result<Grant, Short> {
    let free = path.iter().map(Account::free).min().unwrap_or(ENDLESS);
    decide(free, ask).ok_or_else(|| Short {
        at: path.iter().position(|account| decide(account.free(), ask).is_none()).unwrap_or(0),
        in_the_end: path.iter().all(|account| decide(account.unspent(), ask).is_some()),
    })
}

/// Fits a request into what is free, by lowering its output. `None` where not even the floor fits.
#[must_use]
pub fn decide(free: Usd, ask: &Ask) -> Option<Grant> {
    let input_pico = u128::from(ask.rates.dearest_input()) * u128::from(ask.input_bound);
    let free_pico = u128::from(free.nanos()) * 1_000;
    let left = free_pico.checked_sub(input_pico)?;
    let affordable = match u128::from(ask.rates.output) {
        0 => u64::MAX,
        rate => u64::try_from(left / rate).unwrap_or(u64::MAX),
    };
    let output_tokens = ask.output_wanted.min(affordable);
    if output_tokens < ask.output_floor.min(ask.output_wanted) {
        return None;
    }
    let pico = input_pico + u128::from(ask.rates.output) * u128::from(output_tokens);
    let amount = Usd::from_nanos(u64::try_from(pico.div_ceil(1_000)).ok()?);
    // A key with nothing left is refused even what costs nothing.
    (free > Usd::ZERO).then_some(Grant { output_tokens, amount })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    const RATES: Rates = Rates {
        input: 3_000_000,
        cache_write_5m: 3_750_000,
        cache_write_1h: 6_000_000,
        cache_read: 300_000,
        output: 15_000_000,
    };

    fn ask(input_bound: u64, output_wanted: u64) -> Ask {
        Ask { input_bound, output_wanted, output_floor: 256, rates: RATES }
    }

    #[test]
    fn output_is_lowered_to_what_is_affordable() {
        let free = "1.00".parse().unwrap();
        assert_eq!(decide(free, &ask(1_000, 1_000)).unwrap().output_tokens, 1_000);
        let lowered = decide(free, &ask(1_000, u64::MAX)).unwrap();
        assert_eq!(lowered.output_tokens, (1_000_000_000 - 6_000_000) / 15_000);
        assert!(lowered.amount <= free);
    }

    #[test]
    fn what_does_not_reach_the_floor_is_refused_and_a_small_wish_is_not() {
        let floor = Usd::from_nanos(256 * 15_000);
        assert!(decide(floor, &ask(0, 64_000)).is_some());
        assert!(decide(Usd::from_nanos(256 * 15_000 - 1), &ask(0, 64_000)).is_none());
        assert!(decide(Usd::from_nanos(15_000), &ask(0, 1)).is_some());
        assert!(decide(Usd::ZERO, &Ask { rates: Rates { output: 0, ..RATES }, ..ask(0, 1) }).is_none());
    }

    proptest! {
        #[test]
        fn a_grant_fits_and_covers_its_worst_case(
            free in any::<u64>(), input in 0..1_000_000_u64, wanted in 0..1_000_000_u64,
        ) {
            if let Some(grant) = decide(Usd::from_nanos(free), &ask(input, wanted)) {
                prop_assert!(grant.amount.nanos() <= free);
                let worst = Tokens { cache_write_1h: input, output: grant.output_tokens, ..Tokens::default() };
                prop_assert_eq!(RATES.cost(&worst), grant.amount);
            }
        }
    }
}
