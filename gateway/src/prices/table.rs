//! The table of the crate genai-prices. In memory it takes 17 MB, so the gateway leaves it to its
//! [clerk](super::clerk).

use genai_prices::{Calculator, PriceRequest, Usage, UsageKey};

use super::{ModelPrice, Rates};
use crate::provider::Provider;

/// No model takes longer input; where tiers begin is looked for below this.
const LONGEST_INPUT: u64 = 16_000_000;

/// Kinds that a model has a price of its own for, and that are counted as any other output here. Searches are not among
/// them: no request can ask for one.
const UNCOUNTED: [UsageKey; 2] = [UsageKey::OUTPUT_CITATION_TOKENS, UsageKey::OUTPUT_REASONING_TOKENS];

/// What the table says of a model, or `None` where it does not know it or prices it by what is not counted here. The
/// address tells whose models an upstream serves, where it is neither Anthropic nor OpenAI itself.
#[must_use]
pub fn look_up(provider: Provider, base_url: &str, model: &str) -> Option<ModelPrice> {
    let named = Calculator::bundled().find_provider(None, Some(base_url)).ok().flatten();
    price_of(named.map_or(provider.name(), |info| info.id()), model)
}

/// The bundled table only answers "what does this usage cost", so rates and the places where they change
/// are found by asking.
fn price_of(provider: &str, model: &str) -> Option<ModelPrice> {
    // What is not of tokens at all is a fee for each request.
    if total(provider, model, 0.0, None)? > 0.0 {
        return None;
    }
    let plain = total(provider, model, 1_000.0, None);
    if UNCOUNTED.into_iter().any(|kind| total(provider, model, 1_000.0, Some(kind)) != plain) {
        return None;
    }
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

/// What so many tokens in and out cost, where the output is of this kind.
fn total(provider: &str, model: &str, count: f64, kind: Option<UsageKey>) -> Option<f64> {
    let kinds = [UsageKey::INPUT_TOKENS, UsageKey::OUTPUT_TOKENS].into_iter().chain(kind);
    let usage = Usage::from_iter(kinds.map(|kind| (kind, count)));
    let request = PriceRequest::new(model, &usage).with_provider_id(provider);
    Calculator::bundled().calculate(&request).ok().map(|price| price.total_price)
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
    use crate::tokens::Tokens;

    fn of(provider: Provider, model: &str) -> Option<ModelPrice> {
        look_up(provider, "http://127.0.0.1:1", model)
    }

    #[test]
    fn rates_are_the_published_ones() {
        let price = of(Provider::Anthropic, "claude-haiku-4-5").unwrap();
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
        let price = of(Provider::OpenAi, "gpt-5-nano").unwrap();
        assert_eq!((price.at(1).input, price.at(1).cache_read, price.at(1).output), (50_000, 5_000, 400_000));
    }

    #[test]
    fn a_long_input_is_dearer_from_the_token_on_that_the_table_says() {
        let price = of(Provider::Anthropic, "claude-sonnet-4-5-20250929").unwrap();
        assert_eq!((price.at(200_000).input, price.at(200_001).input), (3_000_000, 6_000_000));
        let tokens = Tokens { input: 1, cache_read: 200_000, output: 1, ..Tokens::default() };
        assert_eq!(price.cost(&tokens).nanos(), 6_000 + 200_000 * 600 + 22_500);
    }

    #[test]
    fn what_is_priced_by_more_than_its_tokens_has_no_price() {
        for model in ["sonar", "sonar-pro", "sonar-deep-research"] {
            assert!(rates_at("perplexity", model, 1).is_some(), "{model} is in the table");
            assert_eq!(look_up(Provider::OpenAi, "https://api.perplexity.ai", model), None, "{model}");
        }
        // Searches have a price here too, and no request can ask for one.
        assert!(of(Provider::OpenAi, "gpt-4.1").is_some());
    }

    #[test]
    fn an_unknown_model_has_no_price() {
        assert!(of(Provider::OpenAi, "qwen-at-home").is_none());
        assert!(of(Provider::Anthropic, "gpt-5").is_none());
    }
}
