//! What the lines of an agent's standard output mean.

use std::collections::BTreeMap;

use protocol::EventBody;
use serde::Deserialize;
use serde_json::Value;

/// The `[output]` of an agent file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutputRules {
    #[serde(default)]
    format: Format,
    #[serde(default, rename = "event")]
    events: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line; what is none is text.
    JsonLines,
}

/// Which lines, and which event each stands for. All rules that fit are used, in their order.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// What must stand in the line.
    when: Conditions,
    /// An array in the line: the rule is for each element, and all but `when` starts there.
    each: Option<Pointer>,
    /// What must stand in the element.
    #[serde(default, rename = "where")]
    where_: Conditions,
    emit: Emit,
}

/// A JSON pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Pointer(String);

/// What must stand at each place: a value, or one of a list of values.
type Conditions = BTreeMap<Pointer, Expected>;

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Expected {
    OneOf(Vec<Value>),
    Is(Value),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Emit {
    /// Nobody waits for what the line says; it is in the log.
    Nothing,
    /// What the agent says.
    Text(Pointer),
    ToolUse(ToolUse),
    ToolResult(ToolResult),
    Usage(Usage),
    /// Something that the agent may get over: the first of these that is there.
    Error(Vec<Pointer>),
    /// The agent gave up, and why: the first of these that is there.
    Failure(Vec<Pointer>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolUse {
    name: Pointer,
    input: Pointer,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolResult {
    name: Option<Pointer>,
    output: Pointer,
    /// Where the tool failed.
    #[serde(default)]
    failed: Conditions,
}

/// Numbers that are added up; one that is not there is 0.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Usage {
    input: Vec<Pointer>,
    output: Vec<Pointer>,
}

/// How standard output is understood.
#[derive(Debug, Clone)]
pub enum Reading {
    /// Every line is an `output` event.
    Plain,
    /// By an agent file's rules.
    Json(JsonRules),
}

/// Rules for lines of JSON.
#[derive(Debug, Clone)]
pub struct JsonRules(Vec<Rule>);

/// One event that a line stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The event.
    pub body: EventBody,
    /// Set where it tells that the agent gave up.
    pub failure: Option<Failure>,
}

/// That an agent gave up, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In the CLI's words.
    pub message: String,
    /// The whole line.
    pub line: String,
}

impl OutputRules {
    pub(super) fn reading(&self) -> Reading {
        match self.format {
            Format::Text => Reading::Plain,
            Format::JsonLines => Reading::Json(JsonRules(self.events.clone())),
        }
    }

    pub(super) fn faults(&self) -> Vec<String> {
        let unused = self.format == Format::Text && !self.events.is_empty();
        let fault = "output.event: has no use without output.format = \"json_lines\"";
        unused.then(|| fault.to_owned()).into_iter().collect()
    }
}

impl Reading {
    /// The events that a line stands for; `None` where no rule is for it.
    #[must_use]
    pub fn findings(&self, line: &[u8]) -> Option<Vec<Finding>> {
        let Self::Json(JsonRules(rules)) = self else { return None };
        let value: Value = serde_json::from_slice(line).ok().filter(Value::is_object)?;
        let mut fitting = rules.iter().filter(|rule| fits(&value, &rule.when)).peekable();
        fitting.peek()?;
        let line = String::from_utf8_lossy(line);
        Some(fitting.flat_map(|rule| rule.apply(&value, &line)).collect())
    }
}

impl Rule {
    fn apply(&self, line: &Value, raw: &str) -> Vec<Finding> {
        let Some(each) = &self.each else { return self.emit.finding(line, raw).into_iter().collect() };
        let elements = each.of(line).and_then(Value::as_array).into_iter().flatten();
        let fitting = elements.filter(|element| fits(element, &self.where_));
        fitting.filter_map(|element| self.emit.finding(element, raw)).collect()
    }
}

impl Emit {
    /// `None` where the line lacks what the event is about.
    fn finding(&self, from: &Value, raw: &str) -> Option<Finding> {
        let value = |pointer: &Pointer| pointer.of(from).cloned().unwrap_or_default();
        let mut failure = None;
        let body = match self {
            Self::Nothing => return None,
            Self::Text(text) => EventBody::Text { text: text.text_of(from)? },
            Self::ToolUse(ToolUse { name, input }) => {
                EventBody::ToolUse { name: name.text_of(from)?, input: value(input) }
            }
            Self::ToolResult(ToolResult { name, output, failed }) => EventBody::ToolResult {
                name: name.as_ref().and_then(|name| name.text_of(from)),
                output: value(output),
                is_error: !failed.is_empty() && fits(from, failed),
            },
            Self::Usage(Usage { input, output }) => {
                EventBody::Usage { input_tokens: sum(from, input), output_tokens: sum(from, output) }
            }
            Self::Error(message) => EventBody::Error { message: first(from, message, raw) },
            Self::Failure(message) => {
                let message = first(from, message, raw);
                failure = Some(Failure { message: message.clone(), line: raw.to_owned() });
                EventBody::Error { message }
            }
        };
        Some(Finding { body, failure })
    }
}

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('/') {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is not a JSON pointer: begin with /"))
        }
    }
}

impl Pointer {
    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        value.pointer(&self.0)
    }

    fn text_of(&self, value: &Value) -> Option<String> {
        match self.of(value)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

fn fits(value: &Value, conditions: &Conditions) -> bool {
    conditions.iter().all(|(pointer, expected)| {
        pointer.of(value).is_some_and(|found| match expected {
            Expected::OneOf(values) => values.contains(found),
            Expected::Is(value) => value == found,
        })
    })
}

fn sum(from: &Value, pointers: &[Pointer]) -> u64 {
    pointers.iter().filter_map(|pointer| pointer.of(from)?.as_u64()).fold(0, u64::saturating_add)
}

fn first(from: &Value, pointers: &[Pointer], or: &str) -> String {
    pointers.iter().find_map(|pointer| pointer.text_of(from)).unwrap_or_else(|| or.to_owned())
}
