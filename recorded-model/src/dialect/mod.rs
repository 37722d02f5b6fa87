//! The three ways in which providers ask and answer. One file each; this one says what they share.

mod chat;
mod messages;
mod responses;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::choose::Asked;
use crate::reply::Reply;
use crate::stream::Frame;

/// The wire format of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Anthropic's Messages, `/v1/messages`.
    Messages,
    /// OpenAI's Chat Completions, `/v1/chat/completions`.
    Chat,
    /// OpenAI's Responses, `/v1/responses`.
    Responses,
}

/// The time at which every answer says it was made (seconds since 1970): a retry gets the same answer.
const CREATED: u64 = 1_700_000_000;

impl Dialect {
    /// The wire format of a path on which a model is asked, with a provider's name before it or without.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let routes = [
            ("/v1/messages", "/anthropic", Self::Messages),
            ("/v1/chat/completions", "/openai", Self::Chat),
            ("/v1/responses", "/openai", Self::Responses),
        ];
        let found =
            routes.into_iter().find(|(route, prefix, _)| path.strip_prefix(prefix).unwrap_or(path) == *route);
        found.map(|(_, _, dialect)| dialect)
    }

    /// Reads a request's body.
    ///
    /// # Errors
    /// What is wrong with the body, for an answer with status 400.
    pub fn read(self, body: &[u8]) -> Result<Asked, String> {
        let value: Value =
            serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let model = value["model"].as_str().ok_or("the body names no model")?.to_owned();
        let items = match self {
            Self::Messages | Self::Chat => value["messages"].as_array().ok_or("messages is not a list")?,
            Self::Responses => match &value["input"] {
                Value::Array(items) => items,
                Value::String(_) => &Vec::new(),
                _ => return Err("input is neither a list nor a text".to_owned()),
            },
        };
        Ok(Asked {
            model,
            stream: value["stream"].as_bool().unwrap_or(false),
            usage_in_stream: self != Self::Chat
                || value["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            tools: self.tools(&value),
            answered: self.answered(items),
            bytes: body.len(),
        })
    }

    fn tools(self, body: &Value) -> BTreeSet<String> {
        let name = |tool: &Value| match self {
            Self::Chat => tool["function"]["name"].as_str().map(ToOwned::to_owned),
            Self::Messages | Self::Responses => tool["name"].as_str().map(ToOwned::to_owned),
        };
        body["tools"].as_array().into_iter().flatten().filter_map(name).collect()
    }

    /// Counts the assistant turns: runs of items of the assistant between items of anyone else.
    fn answered(self, items: &[Value]) -> usize {
        let mut turns = 0;
        let mut inside = false;
        for item in items {
            let assistant = match self {
                Self::Messages | Self::Chat => item["role"] == "assistant",
                Self::Responses => responses::is_of_the_assistant(item),
            };
            turns += usize::from(assistant && !inside);
            inside = assistant;
        }
        turns
    }

    /// The answer that is not streamed.
    #[must_use]
    pub fn whole(self, reply: &Reply) -> Value {
        match self {
            Self::Messages => messages::whole(reply),
            Self::Chat => chat::whole(reply),
            Self::Responses => responses::whole(reply),
        }
    }

    /// The streamed answer, event by event.
    pub(crate) fn frames(self, reply: &Reply, with_usage: bool) -> Vec<Frame> {
        match self {
            Self::Messages => messages::frames(reply),
            Self::Chat => chat::frames(reply, with_usage),
            Self::Responses => responses::frames(reply),
        }
    }

    /// The event by which a stream that has begun reports an error.
    pub(crate) fn error_frame(self, message: &str) -> Frame {
        let error = self.error(500, message);
        match self {
            Self::Messages => Frame::event("error", &error),
            Self::Chat => Frame::data(&error),
            Self::Responses => responses::failed(message),
        }
    }

    /// The body of an answer with an HTTP status of 400 or more.
    #[must_use]
    pub fn error(self, status: u16, message: &str) -> Value {
        match self {
            Self::Messages => messages::error(status, message),
            Self::Chat | Self::Responses => {
                json!({"error": {"message": message, "type": openai_error(status), "param": null, "code": null}})
            }
        }
    }
}

/// OpenAI's word for a status (<https://platform.openai.com/docs/guides/error-codes>).
fn openai_error(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}
