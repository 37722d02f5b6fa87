//! Errors to agents, in the format of the provider that they believe they talk to. Which status makes which
//! agent CLI stop was measured: 400, 402 and 403 stop them, 401 and 5xx make some of them try for minutes.

use axum::response::{IntoResponse, Json, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::{
    body::BadBody,
    ledger::{BadKey, NoMoney},
    provider::Provider,
};

/// Seconds after which a client that came too early may come again.
const RETRY_AFTER: u16 = 2;

/// Without amounts and names: opencode tries again, for more than a minute, where an error's text holds 500 or 429
/// anywhere, whatever its status is. The amounts are in the log and at `GET /v1/key`.
const SPENT: &str = "the rest of the budget does not cover this request: send a new task with a larger one";
const SPENT_OF_REPO: &str = "the rest of what the repository may spend today does not cover this request: set more \
     with code-workers budget, or wait until tomorrow (UTC)";
const SPENT_OF_DAY: &str = "the rest of what may be spent today does not cover this request: set more with \
     code-workers budget, or wait until tomorrow (UTC)";

/// A refusal: its status, its stable word, and a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    word: &'static str,
    sentence: String,
    /// Where it is known better than [`RETRY_AFTER`].
    retry_after_s: Option<u16>,
}

impl Refusal {
    /// Of our own.
    #[must_use]
    pub fn new(status: StatusCode, word: &'static str, sentence: impl Into<String>) -> Self {
        Self { status, word, sentence: sentence.into(), retry_after_s: None }
    }

    /// `word: sentence`, for the word must survive whatever a client makes of the body.
    #[must_use]
    pub fn message(&self) -> String {
        format!("{}: {}", self.word, self.sentence)
    }

    /// The body, in the provider's format.
    #[must_use]
    pub fn body(&self, provider: Provider) -> Value {
        match provider {
            Provider::Anthropic => {
                json!({"type": "error", "error": {"type": self.kind(provider), "message": self.message()}})
            }
            Provider::OpenAi => json!({"error": {
                "message": self.message(), "type": self.kind(provider), "param": null, "code": self.word,
            }}),
        }
    }

    /// The answer, in the provider's format.
    #[must_use]
    pub fn response(&self, provider: Provider) -> Response {
        tracing::info!(status = self.status.as_u16(), provider = provider.name(), "{}", self.message());
        let mut response = (self.status, Json(self.body(provider))).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, self.retry_after_s.unwrap_or(RETRY_AFTER).into());
        }
        response
    }

    /// The provider's name for such an error.
    fn kind(&self, provider: Provider) -> &'static str {
        match (provider, self.status.as_u16()) {
            (Provider::Anthropic, 401) => "authentication_error",
            (Provider::Anthropic, 402) => "billing_error",
            (Provider::Anthropic, 403) => "permission_error",
            (Provider::Anthropic, 404) => "not_found_error",
            (Provider::Anthropic, 413) => "request_too_large",
            (_, 429) => "rate_limit_error",
            (Provider::Anthropic, 500..) => "api_error",
            (Provider::OpenAi, 402) => "insufficient_quota",
            (Provider::OpenAi, 500..) => "server_error",
            _ => "invalid_request_error",
        }
    }
}

impl From<BadKey> for Refusal {
    fn from(bad: BadKey) -> Self {
        let word = match bad {
            BadKey::Unknown => "wrong_key",
            BadKey::Expired | BadKey::Revoked => "key_revoked",
        };
        Self::new(StatusCode::FORBIDDEN, word, bad.to_string())
    }
}

impl From<NoMoney> for Refusal {
    fn from(none: NoMoney) -> Self {
        match none {
            NoMoney::Spent { ref account, .. } => {
                tracing::info!("{none}");
                let spent = match account.split(':').next() {
                    Some("repo") => SPENT_OF_REPO,
                    Some("day") => SPENT_OF_DAY,
                    _ => SPENT,
                };
                Self::new(StatusCode::PAYMENT_REQUIRED, "budget_spent", spent)
            }
            NoMoney::Cut => Self::new(
                StatusCode::PAYMENT_REQUIRED,
                "budget_spent",
                format!("{none}: send a new task with a larger one"),
            ),
            NoMoney::Model { ref allowed } => {
                tracing::info!(allowed, "a model that is not allowed");
                Self::new(StatusCode::FORBIDDEN, "model_not_allowed", "this virtual key is for other models")
            }
            NoMoney::Pace { retry_after_s, .. } => {
                let sentence = format!("{none}: try again in {retry_after_s} s");
                Self {
                    retry_after_s: Some(retry_after_s),
                    ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", sentence)
                }
            }
            NoMoney::Key(bad) => bad.into(),
            NoMoney::Storage(_) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "storage_unavailable",
                "the gateway cannot write its ledger, so nothing can be spent: see its log",
            ),
        }
    }
}

impl From<BadBody> for Refusal {
    fn from(bad: BadBody) -> Self {
        let sentence = match bad {
            BadBody::Malformed(why) => format!("the body is not a request of this API: {why}"),
            BadBody::Forbidden(field) => {
                format!(
                    "{field} is not let through by the gateway: leave it out (docs/security.md lists what passes)"
                )
            }
        };
        Self::new(StatusCode::BAD_REQUEST, "bad_request", sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Usd;

    #[test]
    fn what_is_final_holds_nothing_that_looks_like_a_status_to_try_again_after() {
        let spent = NoMoney::Spent {
            account: "task:500".to_owned(),
            limit: Usd::from_nanos(1_500_500_000),
            spent: Usd::from_nanos(1_429_000_000),
        };
        for refusal in [spent.into(), Refusal::from(BadKey::Expired), Refusal::from(BadKey::Revoked)] {
            let message = refusal.message();
            assert!(!message.contains(|c: char| c.is_ascii_digit()), "{message}");
            assert!(!message.contains("try again"), "{message}");
        }
    }
}
