//! An account's arithmetic: pure, in nano-dollars.
//!
//! Invariant: what has been promised to requests under way (`held`) and what is charged (`spent`) are never
//! promised again; a grant fits into what both leave of the budget.

use protocol::{Usd, keys::KeyUsage};

use crate::{prices::Rates, tokens::Tokens};

/// What a task may spend, and how much of it is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// The most that may be spent.
    pub budget: Usd,
    /// Held for requests under way.
    pub held: Usd,
    /// Charged, and what it was charged for; its own `held_usd` is left zero.
    pub used: KeyUsage,
}

impl Account {
    /// What is neither spent nor held.
    #[must_use]
    pub fn free(&self) -> Usd {
        self.budget.saturating_sub(self.used.spent_usd).saturating_sub(self.held)
    }

    /// What is not spent, though some of it may be held.
    #[must_use]
    pub fn unspent(&self) -> Usd {
        self.budget.saturating_sub(self.used.spent_usd)
    }

    /// Gives back a hold and charges what became of it.
    pub fn settle(&mut self, held: Usd, charge: &Charge) {
        self.held = self.held.saturating_sub(held);
        let used = &mut self.used;
        used.spent_usd = used.spent_usd.saturating_add(charge.amount);
        if charge.reached_model {
            used.requests += 1;
        }
        used.input_tokens = used.input_tokens.saturating_add(charge.tokens.input_total());
        used.output_tokens = used.output_tokens.saturating_add(charge.tokens.output);
        if charge.reached_model && !used.models.contains(&charge.model) {
            used.models.push(charge.model.clone());
        }
    }

    /// After a crash nobody knows what became of the holds, so they are charged in full.
    pub fn charge_holds(&mut self) {
        self.used.spent_usd = self.used.spent_usd.saturating_add(self.held);
        self.held = Usd::ZERO;
    }
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// To be charged.
    pub amount: Usd,
    /// As reported.
    pub tokens: Tokens,
    /// The model that was asked.
    pub model: String,
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
