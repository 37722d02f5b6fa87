//! One answer, ready to be written down in a provider's words.

use serde_json::{Map, Value};

use crate::script::{Stop, Usage};

/// One answer to one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Tells this answer from the others of the conversation; the same for a retry.
    pub label: String,
    /// The model that the request asked for.
    pub model: String,
    /// What was thought before; may be empty.
    pub thinking: String,
    /// What is said; may be empty when tools are called.
    pub text: String,
    /// The tools that are called.
    pub calls: Vec<NamedCall>,
    /// The tokens that are reported.
    pub usage: Usage,
    /// Why it stops, where that is neither its end nor its calls.
    pub stop: Option<Stop>,
}

/// A tool call with the identifier by which its result will be named.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedCall {
    /// Unique in the conversation; each provider puts its own prefix before it.
    pub label: String,
    /// The tool's name, as the request declares it.
    pub name: String,
    /// The tool's arguments.
    pub input: Map<String, Value>,
}

impl NamedCall {
    /// The arguments as JSON text, which is how streams and OpenAI carry them.
    #[must_use]
    pub fn arguments(&self) -> String {
        Value::Object(self.input.clone()).to_string()
    }
}

impl Reply {
    /// The text in the pieces in which it is streamed.
    pub fn text_deltas(&self) -> impl Iterator<Item = &str> {
        words(&self.text)
    }
}

/// A text in the pieces in which it is streamed: a word with the space after it.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(char::is_whitespace)
}

/// JSON text in the pieces in which it is streamed.
#[must_use]
pub fn argument_deltas(arguments: &str) -> Vec<String> {
    const CHARS_A_DELTA: usize = 32;
    let chars: Vec<char> = arguments.chars().collect();
    chars.chunks(CHARS_A_DELTA).map(|chunk| chunk.iter().collect()).collect()
}
