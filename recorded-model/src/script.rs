//! The turns file: what the model "says", apart from how any provider writes it down.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The turns of one recorded conversation, in order. Never empty.
#[derive(Debug, Clone)]
pub struct Script {
    turns: Vec<Turn>,
}

/// One answer of the model.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// What it thinks before it says anything; Messages alone has a place for it.
    pub thinking: String,
    /// What it says before it calls tools; may be empty when it calls any.
    pub text: String,
    /// The tools that it calls, in order.
    pub tools: Vec<ToolCall>,
    /// What it reports as used; estimated from sizes when the file says nothing.
    pub usage: Option<Usage>,
    /// Why it stops, where that is neither its end nor its calls.
    pub stop: Option<Stop>,
    /// The wait before each delta of a stream. Zero is as fast as the client reads.
    pub delay: Duration,
    /// What goes wrong in this turn.
    pub fault: Option<Fault>,
}

/// One tool call, as every agent CLI that may play this script would name it. Never empty.
#[derive(Debug, Clone)]
pub struct ToolCall {
    alternatives: Vec<Call>,
}

/// A tool's name and its input, as one agent CLI declares them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The name under which the request declares the tool.
    pub name: String,
    /// The arguments, by name.
    #[serde(default)]
    pub input: Map<String, Value>,
}

/// Tokens of one turn. `input` excludes what was read from or written to the prompt cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Input tokens at full price.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Input tokens that were read from the cache.
    #[serde(default)]
    pub cache_read: u64,
    /// Input tokens that were written to the cache.
    #[serde(default)]
    pub cache_write: u64,
}

/// Why a model stops before it has said all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It has come to the tokens that it was given.
    Length,
}

/// The one thing that goes wrong in a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The request is refused with this HTTP status (400 to 599) and message.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the provider says about it.
        message: String,
        /// Seconds after which the client may come again, where it is told.
        retry_after: Option<u64>,
    },
    /// The stream begins, and after half of its deltas reports this error.
    Failed(String),
    /// The connection is cut after half of the deltas.
    Cut,
    /// After half of the deltas nothing more comes, and the stream stays open until the client goes.
    Hang,
}

impl Script {
    /// Reads a TOML file, or a JSON one when its name ends in `.json`.
    ///
    /// # Errors
    /// Every fault of the file at once, a line each, naming the file.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the turns file {}: {error}", path.display()))?;
        let parsed = if path.extension().is_some_and(|extension| extension == "json") {
            Self::from_json(&text)
        } else {
            Self::from_toml(&text)
        };
        parsed.map_err(|faults| format!("the turns file {} is not usable:\n{faults}", path.display()))
    }

    /// Reads the turns from TOML.
    ///
    /// # Errors
    /// Every fault at once, a line each.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        toml::from_str::<RawScript>(text).map_err(|error| error.to_string())?.check()
    }

    /// Reads the turns from JSON.
    ///
    /// # Errors
    /// Every fault at once, a line each.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str::<RawScript>(text).map_err(|error| error.to_string())?.check()
    }

    /// The turn for a request that already holds `answered` assistant turns, or none after the last one.
    #[must_use]
    pub fn turn(&self, answered: usize) -> Option<&Turn> {
        self.turns.get(answered)
    }

    /// The last words of the script: what a client that goes on after the last turn is told.
    #[must_use]
    pub fn last_words(&self) -> &str {
        self.turns
            .iter()
            .rev()
            .map(|turn| turn.text.as_str())
            .find(|text| !text.is_empty())
            .unwrap_or("Done.")
    }
}

impl ToolCall {
    /// The first alternative whose name is `declared`.
    pub fn pick(&self, declared: impl Fn(&str) -> bool) -> Option<&Call> {
        self.alternatives.iter().find(|call| declared(&call.name))
    }

    /// The names of the alternatives, in the file's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.alternatives.iter().map(|call| call.name.as_str())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScript {
    #[serde(default)]
    turn: Vec<RawTurn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTurn {
    #[serde(default)]
    thinking: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    tool: Vec<RawTool>,
    usage: Option<Usage>,
    stop: Option<Stop>,
    #[serde(default)]
    delay_ms: u64,
    status: Option<u16>,
    error: Option<String>,
    retry_after: Option<u64>,
    #[serde(default)]
    cut: bool,
    #[serde(default)]
    hang: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTool {
    name: String,
    #[serde(default)]
    input: Map<String, Value>,
    #[serde(default)]
    or: Vec<Call>,
}

impl RawScript {
    fn check(self) -> Result<Script, String> {
        let mut faults = Vec::new();
        if self.turn.is_empty() {
            faults.push("it has no turn: write at least one [[turn]] with a text or a tool".to_owned());
        }
        let turns = self
            .turn
            .into_iter()
            .enumerate()
            .filter_map(|(index, raw)| {
                raw.check().map_err(|fault| faults.push(format!("turn {}: {fault}", index + 1))).ok()
            })
            .collect();
        if faults.is_empty() { Ok(Script { turns }) } else { Err(faults.join("\n")) }
    }
}

impl RawTurn {
    fn check(self) -> Result<Turn, String> {
        let fault = self.fault()?;
        let refused = matches!(fault, Some(Fault::Refused { .. }));
        if self.text.is_empty() && self.tool.is_empty() && !refused {
            return Err("it neither says a text nor calls a tool".to_owned());
        }
        let tools = self.tool.into_iter().map(RawTool::into_call).collect();
        let delay = Duration::from_millis(self.delay_ms);
        let Self { thinking, text, usage, stop, .. } = self;
        Ok(Turn { thinking, text, tools, usage, stop, delay, fault })
    }

    fn fault(&self) -> Result<Option<Fault>, String> {
        if self.retry_after.is_some() && self.status.is_none() {
            return Err("retry_after has no use without a status".to_owned());
        }
        match (self.status, &self.error, self.cut, self.hang) {
            (None, None, false, false) => Ok(None),
            (None, None, true, false) => Ok(Some(Fault::Cut)),
            (None, None, false, true) => Ok(Some(Fault::Hang)),
            (None, Some(message), false, false) => Ok(Some(Fault::Failed(message.clone()))),
            (Some(status @ 400..=599), message, false, false) => {
                let message = message.clone().unwrap_or_else(|| "recorded refusal".to_owned());
                Ok(Some(Fault::Refused { status, message, retry_after: self.retry_after }))
            }
            (Some(status), _, false, false) => Err(format!("status {status} is not between 400 and 599")),
            _ => Err("of status or error, cut and hang only one can happen".to_owned()),
        }
    }
}

impl RawTool {
    fn into_call(self) -> ToolCall {
        let mut alternatives = vec![Call { name: self.name, input: self.input }];
        alternatives.extend(self.or);
        ToolCall { alternatives }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = "[[turn]]\ntext='hi'\n[[turn.tool]]\nname='Write'\ninput={file_path='a'}\n[[turn.tool.or]]\nname='write'\ninput={filePath='a'}";
        let json = r#"{"turn":[{"text":"hi","tool":[{"name":"Write","input":{"file_path":"a"},
            "or":[{"name":"write","input":{"filePath":"a"}}]}]}]}"#;
        let (toml, json) = (Script::from_toml(toml).unwrap(), Script::from_json(json).unwrap());
        assert_eq!(format!("{toml:?}"), format!("{json:?}"));
        let call = toml.turn(0).unwrap().tools[0].pick(|name| name == "write").unwrap();
        assert_eq!(call.input["filePath"], "a");
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let faults = Script::from_toml(
            "[[turn]]\n[[turn]]\ntext='a'\nstatus=200\n[[turn]]\ntext='a'\ncut=true\nhang=true\n[[turn]]\ntext='a'\nretry_after=1\n[[turn]]\ntext='fine'",
        )
        .unwrap_err();
        let expected = [
            "turn 1: it neither says a text nor calls a tool",
            "turn 2: status 200 is not between 400 and 599",
            "turn 3: of status or error, cut and hang only one can happen",
            "turn 4: retry_after has no use without a status",
        ];
        assert_eq!(faults, expected.join("\n"));
    }

    #[test]
    fn an_unknown_word_is_refused() {
        assert!(Script::from_toml("[[turn]]\ntext='a'\ntexxt='b'").unwrap_err().contains("texxt"));
        assert!(Script::from_toml("").unwrap_err().contains("no turn"));
    }

    #[test]
    fn the_last_words_skip_turns_without_text() {
        let script = Script::from_toml("[[turn]]\ntext='first'\n[[turn]]\ntool=[{name='x'}]").unwrap();
        assert_eq!(script.last_words(), "first");
    }
}
