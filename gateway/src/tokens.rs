//! Tokens of one request, and how each provider reports them.

use serde::Deserialize;

/// Each token counted once, in the kind that it is priced by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Input that was neither read from a cache nor written to one.
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

impl Tokens {
    /// All input, cache included.
    #[must_use]
    pub fn input_total(&self) -> u64 {
        [self.input, self.cache_write_5m, self.cache_write_1h, self.cache_read]
            .iter()
            .fold(0, |sum: u64, part| sum.saturating_add(*part))
    }
}

/// `usage` of Anthropic's Messages. In a stream every field but `output_tokens` may be absent from
/// `message_delta`, and then the value of `message_start` stands.
#[derive(Debug, Default, Deserialize)]
pub struct AnthropicUsage {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
}

#[derive(Debug, Default, Deserialize)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

impl AnthropicUsage {
    /// Replaces what is said here: values are cumulative. What the split does not name of the cache's total
    /// counts as the five-minute kind.
    pub fn replace(&self, tokens: &mut Tokens) {
        tokens.input = self.input_tokens.unwrap_or(tokens.input);
        tokens.cache_read = self.cache_read_input_tokens.unwrap_or(tokens.cache_read);
        tokens.output = self.output_tokens.unwrap_or(tokens.output);
        let split = self.cache_creation.as_ref();
        if let Some(one_hour) = split.and_then(|split| split.ephemeral_1h_input_tokens) {
            tokens.cache_write_1h = one_hour;
        }
        let five_minutes = split.and_then(|split| split.ephemeral_5m_input_tokens);
        let rest = self.cache_creation_input_tokens.map(|total| total.saturating_sub(tokens.cache_write_1h));
        tokens.cache_write_5m = five_minutes.max(rest).unwrap_or(tokens.cache_write_5m);
    }
}

/// `usage` of Chat Completions and of Responses, which differ in names only. Input includes what was cached.
#[derive(Debug, Default, Deserialize)]
pub struct OpenAiUsage {
    #[serde(alias = "prompt_tokens")]
    input_tokens: u64,
    #[serde(alias = "completion_tokens", default)]
    output_tokens: u64,
    #[serde(alias = "prompt_tokens_details", default)]
    input_tokens_details: Option<InputDetails>,
}

#[derive(Debug, Default, Deserialize)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

impl From<OpenAiUsage> for Tokens {
    fn from(usage: OpenAiUsage) -> Self {
        let details = usage.input_tokens_details.unwrap_or_default();
        let cache_read = details.cached_tokens.unwrap_or(0).min(usage.input_tokens);
        let rest = usage.input_tokens - cache_read;
        let cache_write_5m = details.cache_write_tokens.unwrap_or(0).min(rest);
        Self {
            input: rest - cache_write_5m,
            cache_write_5m,
            cache_write_1h: 0,
            cache_read,
            output: usage.output_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anthropic(tokens: &mut Tokens, json: &str) {
        serde_json::from_str::<AnthropicUsage>(json).unwrap().replace(tokens);
    }

    #[test]
    fn anthropic_values_replace_and_the_split_is_kept() {
        let mut tokens = Tokens::default();
        anthropic(
            &mut tokens,
            r#"{"input_tokens":10,"cache_creation_input_tokens":100,"cache_read_input_tokens":7,"output_tokens":1,
                "cache_creation":{"ephemeral_5m_input_tokens":60,"ephemeral_1h_input_tokens":30}}"#,
        );
        let start = Tokens { input: 10, cache_write_5m: 70, cache_write_1h: 30, cache_read: 7, output: 1 };
        assert_eq!(tokens, start);
        anthropic(&mut tokens, r#"{"output_tokens":55}"#);
        assert_eq!(tokens, Tokens { output: 55, ..start });
        anthropic(&mut tokens, r#"{"output_tokens":60,"cache_creation_input_tokens":100}"#);
        assert_eq!(tokens, Tokens { output: 60, ..start });
    }

    #[test]
    fn openai_input_includes_the_cache() {
        let usage: OpenAiUsage = serde_json::from_str(
            r#"{"prompt_tokens":100,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":40,"audio_tokens":0}}"#,
        )
        .unwrap();
        let wanted = Tokens { input: 60, cache_read: 40, output: 5, ..Tokens::default() };
        assert_eq!(Tokens::from(usage), wanted);
        let usage: OpenAiUsage = serde_json::from_str(
            r#"{"input_tokens":9,"output_tokens":5,"input_tokens_details":{"cached_tokens":90}}"#,
        )
        .unwrap();
        assert_eq!(Tokens::from(usage), Tokens { cache_read: 9, output: 5, ..Tokens::default() });
    }
}
