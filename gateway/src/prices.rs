//! What tokens cost. Prices are whole pico-dollars (1e-12 USD) a token, so that sums are exact; a request's
//! cost is rounded up to a nano-dollar once, at the end.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use genai_prices::{Calculator, PriceRequest, Usage, UsageKey};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use protocol::Usd;

use crate::{provider::Provider, tokens::Tokens};

/// Pico-dollars a token, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Every price that is known: the configuration's first, then the bundled table's.
#[derive(Debug)]
pub struct PriceList {
    own: BTreeMap<String, Arc<ModelPrice>>,
    /// Names by which the bundled table knows the upstreams.
    table_names: HashMap<Provider, String>,
    /// Asked before, by provider and model.
    known: Mutex<HashMap<(Provider, String), Answer>>,
}

/// What the bundled table said, and when: prices change at midnight UTC.
type Answer = (Date, Option<Arc<ModelPrice>>);

/// Names kept in memory: an agent that asks for ever new models must not fill it.
const KNOWN_MODELS: usize = 1_000;
/// No model takes longer input; where tiers begin is looked for below this.
const LONGEST_INPUT: u64 = 16_000_000;

impl PriceList {
    /// A list with the configuration's own prices. `base_urls` tells the bundled table whose models an
    /// upstream serves, where it is neither Anthropic nor OpenAI itself.
    #[must_use]
    pub fn new(own: BTreeMap<String, ModelPrice>, base_urls: &[(Provider, &str)]) -> Self {
        let table_names = base_urls.iter().map(|&(provider, url)| {
            let named = Calculator::bundled().find_provider(None, Some(url)).ok().flatten();
            (provider, named.map_or_else(|| provider.name().to_owned(), |info| info.id().to_owned()))
        });
        Self {
            own: own.into_iter().map(|(model, price)| (model, Arc::new(price))).collect(),
            table_names: table_names.collect(),
            known: Mutex::default(),
        }
    }

    /// A model's price, or `None` where nobody has said one: such a model is refused, never free.
    #[must_use]
    pub fn find(&self, provider: Provider, model: &str) -> Option<Arc<ModelPrice>> {
        if let Some(price) = self.own.get(model) {
            return Some(Arc::clone(price));
        }
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        let key = (provider, model.to_owned());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((day, price)) = known.get(&key)
            && *day == today
        {
            return price.clone();
        }
        let table = self.table_names.get(&provider).map_or(provider.name(), String::as_str);
        let price = from_table(table, model).map(Arc::new);
        if known.len() >= KNOWN_MODELS {
            known.clear();
        }
        known.insert(key, (today, price.clone()));
        price
    }
}

/// The bundled table only answers "what does this usage cost", so rates and the places where they change
/// are found by asking.
fn from_table(provider: &str, model: &str) -> Option<ModelPrice> {
    let rates = |input| rates_at(provider, model, input);
    let base = rates(1)?;
    let mut tiers = Vec::new();
    let (mut from, mut current, last) = (1, base, rates(LONGEST_INPUT)?);
    while current != last {
        let (mut same, mut other) = (from, LONGEST_INPUT);
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            if rates(middle)? == current { same = middle } else { other = middle }
        }
        current = rates(other)?;
        tiers.push((same, current));
        from = other;
    }
    (base.input > 0 || base.output > 0).then_some(ModelPrice { base, tiers })
}

fn rates_at(provider: &str, model: &str, input: u64) -> Option<Rates> {
    // Whole numbers far below 2^53: exact.
    #[allow(clippy::cast_precision_loss, reason = "at most LONGEST_INPUT")]
    let count = input as f64;
    let ask = |kind: Option<UsageKey>| {
        let mut usage = Usage::from([(UsageKey::INPUT_TOKENS, count)]);
        if let Some(kind) = kind {
            usage.insert(kind, count);
        }
        if usage.contains_key(UsageKey::CACHE_WRITE_5M_TOKENS)
            || usage.contains_key(UsageKey::CACHE_WRITE_1H_TOKENS)
        {
            usage.insert(UsageKey::CACHE_WRITE_TOKENS, count);
        }
        let request = PriceRequest::new(model, &usage).with_provider_id(provider);
        Calculator::bundled().calculate(&request).ok()
    };
    let pico = |dollars: f64| {
        let rate = (dollars / count * 1e12).round();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
        (0.0..1e15).contains(&rate).then_some(rate as u64)
    };
    Some(Rates {
        input: pico(ask(None)?.input_price)?,
        cache_write_5m: pico(ask(Some(UsageKey::CACHE_WRITE_5M_TOKENS))?.input_price)?,
        cache_write_1h: pico(ask(Some(UsageKey::CACHE_WRITE_1H_TOKENS))?.input_price)?,
        cache_read: pico(ask(Some(UsageKey::CACHE_READ_TOKENS))?.input_price)?,
        output: pico(ask(Some(UsageKey::OUTPUT_TOKENS))?.output_price)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> PriceList {
        PriceList::new(BTreeMap::new(), &[])
    }

    #[test]
    fn rates_are_the_published_ones() {
        let price = list().find(Provider::Anthropic, "claude-haiku-4-5").unwrap();
        let dollar_a_million = 1_000_000;
        assert_eq!(
            *price.at(1),
            Rates {
                input: dollar_a_million,
                cache_write_5m: 1_250_000,
                cache_write_1h: 2 * dollar_a_million,
                cache_read: 100_000,
                output: 5 * dollar_a_million,
            }
        );
        let price = list().find(Provider::OpenAi, "gpt-5-nano").unwrap();
        assert_eq!((price.at(1).input, price.at(1).cache_read, price.at(1).output), (50_000, 5_000, 400_000));
    }

    #[test]
    fn a_long_input_is_dearer_from_the_token_on_that_the_table_says() {
        let price = list().find(Provider::Anthropic, "claude-sonnet-4-5-20250929").unwrap();
        assert_eq!((price.at(200_000).input, price.at(200_001).input), (3_000_000, 6_000_000));
        let tokens = Tokens { input: 1, cache_read: 200_000, output: 1, ..Tokens::default() };
        assert_eq!(price.cost(&tokens).nanos(), 6_000 + 200_000 * 600 + 22_500);
    }

    #[test]
    fn an_unknown_model_has_no_price() {
        assert!(list().find(Provider::OpenAi, "qwen-at-home").is_none());
        assert!(list().find(Provider::Anthropic, "gpt-5").is_none());
    }

    #[test]
    fn a_cost_is_rounded_up_once() {
        let rates = Rates { input: 1, cache_write_5m: 0, cache_write_1h: 0, cache_read: 0, output: 1 };
        assert_eq!(rates.cost(&Tokens { input: 500, output: 501, ..Tokens::default() }).nanos(), 2);
    }
}
