//! Reads aside what an answer used, while the answer passes.

use memchr::memmem;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;

use crate::{
    account::Grant,
    prices::ModelPrice,
    provider::Api,
    tokens::{AnthropicUsage, OpenAiUsage, Tokens},
};
use protocol::Usd;

/// Events that carry a delta but no token, in one answer: starts and ends.
const TOKENLESS_DELTAS: u64 = 16;

/// What is known of an answer's usage so far.
#[derive(Debug)]
pub struct Meter {
    api: Api,
    tokens: Tokens,
    deltas: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing came.
    Silent,
    /// The answer has begun.
    Begun,
    /// The provider reported an error before anything else.
    Refused,
    /// The last usage came.
    Final,
}

/// What an event was for whoever passes it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Part of the answer.
    Answer,
    /// Nothing but usage, which Chat sends when it was asked to.
    UsageOnly,
}

#[derive(Deserialize)]
struct AnthropicEvent {
    #[serde(rename = "type")]
    kind: String,
    message: Option<AnthropicBody>,
    delta: Option<Delta>,
    usage: Option<AnthropicUsage>,
}

#[derive(Deserialize)]
struct Delta {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct AnthropicBody {
    usage: Option<AnthropicUsage>,
}

#[derive(Deserialize)]
struct OpenAiBody {
    usage: Option<OpenAiUsage>,
    choices: Option<Vec<IgnoredAny>>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ResponsesEvent {
    #[serde(rename = "type")]
    kind: String,
    response: Option<OpenAiBody>,
}

impl Meter {
    /// For one answer.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self { api, tokens: Tokens::default(), deltas: 0, state: State::Silent }
    }

    /// Whether the last usage has come.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.state == State::Final
    }

    /// Reads one event's data.
    pub fn event(&mut self, data: &[u8]) -> Event {
        let holds = |word: &str| memmem::find(data, word.as_bytes()).is_some();
        if holds("delta") {
            self.deltas += 1;
        }
        // Most events hold neither, and need not be parsed.
        if data == b"[DONE]" && self.tokens != Tokens::default() {
            // Some servers report usage beside the last choice instead of in a chunk of its own.
            self.state = State::Final;
            return Event::Answer;
        }
        if !holds("\"usage\"") && !holds("\"error\"") {
            self.begin(!data.is_empty());
            return Event::Answer;
        }
        match self.api {
            Api::Messages | Api::CountTokens => self.anthropic_event(data),
            Api::Chat => return self.chat_event(data),
            Api::Responses => self.responses_event(data),
        }
        Event::Answer
    }

    fn begin(&mut self, begun: bool) {
        if begun && self.state == State::Silent {
            self.state = State::Begun;
        }
    }

    fn refuse(&mut self) {
        if self.state == State::Silent {
            self.state = State::Refused;
        }
    }

    fn anthropic_event(&mut self, data: &[u8]) {
        let Ok(event) = serde_json::from_slice::<AnthropicEvent>(data) else { return self.begin(true) };
        if event.kind == "error" {
            return self.refuse();
        }
        self.begin(event.kind != "ping");
        let usage = event.message.and_then(|message| message.usage).or(event.usage);
        if let Some(usage) = usage {
            usage.replace(&mut self.tokens);
        }
        if event.kind == "message_delta" && event.delta.is_some_and(|delta| delta.stop_reason.is_some()) {
            self.state = State::Final;
        }
    }

    fn chat_event(&mut self, data: &[u8]) -> Event {
        let Ok(event) = serde_json::from_slice::<OpenAiBody>(data) else {
            self.begin(true);
            return Event::Answer;
        };
        if event.error.is_some() {
            self.refuse();
            return Event::Answer;
        }
        self.begin(true);
        let Some(usage) = event.usage else { return Event::Answer };
        self.tokens = usage.into();
        if event.choices.is_none_or(|choices| choices.is_empty()) {
            self.state = State::Final;
            return Event::UsageOnly;
        }
        Event::Answer
    }

    fn responses_event(&mut self, data: &[u8]) {
        let Ok(event) = serde_json::from_slice::<ResponsesEvent>(data) else { return self.begin(true) };
        let usage = event.response.and_then(|response| response.usage);
        match (event.kind.as_str(), usage) {
            ("response.completed" | "response.incomplete" | "response.failed", Some(usage)) => {
                self.tokens = usage.into();
                self.state = State::Final;
            }
            // Nothing is billed for what the provider says has failed without having used anything.
            ("response.failed", None) => self.state = State::Final,
            ("error", _) => self.refuse(),
            _ => self.begin(true),
        }
    }

    /// Reads a whole answer that is not a stream.
    pub fn body(&mut self, json: &[u8]) {
        self.begin(true);
        let usage = match self.api {
            Api::Messages | Api::CountTokens => serde_json::from_slice::<AnthropicBody>(json)
                .ok()
                .and_then(|body| body.usage)
                .map(|usage| usage.replace(&mut self.tokens)),
            Api::Chat | Api::Responses => serde_json::from_slice::<OpenAiBody>(json)
                .ok()
                .and_then(|body| body.usage)
                .map(|usage| self.tokens = usage.into()),
        };
        if usage.is_some() {
            self.state = State::Final;
        }
    }

    /// The least that the answer can have cost so far.
    #[must_use]
    pub fn cost_so_far(&self, price: &ModelPrice) -> Usd {
        let output = self.tokens.output.max(self.deltas.saturating_sub(TOKENLESS_DELTAS));
        price.cost(&Tokens { output, ..self.tokens })
    }

    /// As reported so far.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// The event that ends a stream which has passed its budget, in the API's own words.
    #[must_use]
    pub fn budget_error(&self) -> String {
        let message = "budget_spent: this answer has passed the task's budget and was cut";
        match self.api {
            Api::Messages | Api::CountTokens => {
                let error = json!({"type": "error", "error": {"type": "billing_error", "message": message}});
                format!("event: error\ndata: {error}\n\n")
            }
            Api::Chat => {
                let kind = "insufficient_quota";
                let error = json!({"error": {"message": message, "type": kind, "param": null, "code": "budget_spent"}});
                format!("data: {error}\n\n")
            }
            Api::Responses => {
                let error = json!({"type": "response.failed", "sequence_number": 0, "response": {
                    "id": "resp_cut", "object": "response", "status": "failed", "output": [], "usage": null,
                    "error": {"code": "insufficient_quota", "message": message},
                }});
                format!("event: response.failed\ndata: {error}\n\n")
            }
        }
    }

    /// What is charged for an answer that has ended, or `None` where nothing is: exactly what was reported,
    /// or, where the last report never came, all that the grant let the model produce.
    #[must_use]
    pub fn charge(&self, price: &ModelPrice, grant: &Grant) -> Option<(Usd, Tokens)> {
        match self.state {
            State::Refused => None,
            State::Final => Some((price.cost(&self.tokens), self.tokens)),
            State::Begun if self.tokens.input_total() > 0 => {
                let output = grant.output_tokens.max(self.tokens.output).max(self.deltas);
                let tokens = Tokens { output, ..self.tokens };
                Some((price.cost(&tokens), tokens))
            }
            State::Silent | State::Begun => Some((grant.amount.max(self.cost_so_far(price)), self.tokens)),
        }
    }
}

#[cfg(test)]
mod tests;
