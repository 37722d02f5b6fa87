//! What tokens cost. Prices are whole pico-dollars (1e-12 USD) a token, so that sums are exact; a request's
//! cost is rounded up to a nano-dollar once, at the end.

use protocol::Usd;
use serde::{Deserialize, Serialize};

use crate::tokens::Tokens;

pub mod clerk;
mod list;
pub mod table;

pub use list::PriceList;

/// Pico-dollars a token, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Input that no cache was asked about.
    pub input: u64,
    /// Input written to the five-minute cache.
    pub cache_write_5m: u64,
    /// Input written to the one-hour cache.
    pub cache_write_1h: u64,
    /// Input read from a cache.
    pub cache_read: u64,
    /// Output, reasoning included.
    pub output: u64,
}

impl Rates {
    /// What these tokens cost, rounded up to a nano-dollar.
    #[must_use]
    pub fn cost(&self, tokens: &Tokens) -> Usd {
        let parts = [
            (self.input, tokens.input),
            (self.cache_write_5m, tokens.cache_write_5m),
            (self.cache_write_1h, tokens.cache_write_1h),
            (self.cache_read, tokens.cache_read),
            (self.output, tokens.output),
        ];
        let pico: u128 = parts.iter().map(|&(rate, count)| u128::from(rate) * u128::from(count)).sum();
        Usd::from_nanos(u64::try_from(pico.div_ceil(1_000)).unwrap_or(u64::MAX))
    }

    fn dearer(self, other: &Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cache_write_5m: self.cache_write_5m.max(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.max(other.cache_write_1h),
            cache_read: self.cache_read.max(other.cache_read),
            output: self.output.max(other.output),
        }
    }

    /// The dearest that a token of input can be: it may be written to a cache.
    #[must_use]
    pub fn dearest_input(&self) -> u64 {
        self.input.max(self.cache_write_5m).max(self.cache_write_1h).max(self.cache_read)
    }
}

/// A model's prices: one set, or several by the length of the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPrice {
    base: Rates,
    /// Rates of the whole request once its input is longer than so many tokens; ascending.
    tiers: Vec<(u64, Rates)>,
}

impl ModelPrice {
    /// One price for every length.
    #[must_use]
    pub fn flat(base: Rates) -> Self {
        Self { base, tiers: Vec::new() }
    }

    /// One price, and others for requests whose input is longer than so many tokens, ascending.
    #[must_use]
    pub fn tiered(base: Rates, mut tiers: Vec<(u64, Rates)>) -> Self {
        tiers.sort_by_key(|(over, _)| *over);
        Self { base, tiers }
    }

    /// The rates of a request with this many tokens of input, cache included.
    #[must_use]
    pub fn at(&self, input_tokens: u64) -> &Rates {
        self.tiers.iter().rev().find(|(over, _)| input_tokens > *over).map_or(&self.base, |(_, rates)| rates)
    }

    /// The dearest rate of each kind that a request with at most so many tokens of input can have.
    #[must_use]
    pub fn dearest_up_to(&self, input_tokens: u64) -> Rates {
        let tiers = self.tiers.iter().filter(|(over, _)| input_tokens > *over);
        tiers.fold(self.base, |dearest, (_, rates)| dearest.dearer(rates))
    }

    /// What these tokens cost.
    #[must_use]
    pub fn cost(&self, tokens: &Tokens) -> Usd {
        self.at(tokens.input_total()).cost(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_rounded_up_once() {
        let rates = Rates { input: 1, cache_write_5m: 0, cache_write_1h: 0, cache_read: 0, output: 1 };
        assert_eq!(rates.cost(&Tokens { input: 500, output: 501, ..Tokens::default() }).nanos(), 2);
    }
}
