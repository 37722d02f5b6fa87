//! The file that a recording grows into, without anything that tells whose it is.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::hear::Heard;
use crate::script::{Call, Stop, Usage};

/// What stands where a key or an organisation stood.
pub const REMOVED: &str = "[removed]";

/// How keys and the ids of accounts begin, and how many characters follow at least.
const MARKS: [&str; 7] = ["sk-", "sk_", "sess-", "org-", "org_", "proj_", "Bearer "];
const FEWEST: usize = 12;

/// The recorded turns, and where they are written.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    turns: BTreeMap<usize, Kept>,
}

#[derive(Debug)]
struct Kept {
    heard: Heard,
    /// Whether the request declared tools; one without is about the conversation, not of it.
    with_tools: bool,
}

impl Keeper {
    /// A recording in this file, which must not be there yet.
    ///
    /// # Errors
    /// When it is there, or cannot be made.
    pub fn create(path: &Path) -> Result<Self, String> {
        let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let said = |error| format!("cannot make the recording {}: {error}", path.display());
        made.map_err(said).map(|_| Self { path: path.to_owned(), turns: BTreeMap::new() })
    }

    /// Keeps the answer to a request that held so many assistant turns: an answer that is asked for again replaces
    /// the one before. Nothing of `secrets` is written.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(
        &mut self,
        turn: usize,
        with_tools: bool,
        heard: Heard,
        secrets: &[String],
    ) -> Result<(), String> {
        if self.turns.get(&turn).is_some_and(|kept| kept.with_tools && !with_tools) {
            return Ok(());
        }
        self.turns.insert(turn, Kept { heard: clean(heard, secrets), with_tools });
        let written = self.text().and_then(|text| self.write(&text).map_err(|error| error.to_string()));
        written.map_err(|why| format!("cannot write the recording {}: {why}", self.path.display()))
    }

    /// How many turns there are.
    #[must_use]
    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    fn text(&self) -> Result<String, String> {
        let last = self.turns.keys().next_back().map_or(0, |last| last + 1);
        let turn =
            (0..last).map(|at| self.turns.get(&at).map_or_else(Turn::missing, |kept| Turn::of(&kept.heard)));
        let script = Script { turn: turn.collect() };
        toml::to_string(&script).map_err(|error| error.to_string())
    }

    fn write(&self, text: &str) -> std::io::Result<()> {
        let next = self.path.with_extension("part");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&next, &self.path)
    }
}

/// As [`crate::script::Script`] reads it.
#[derive(Serialize)]
struct Script<'a> {
    turn: Vec<Turn<'a>>,
}

#[derive(Serialize)]
struct Turn<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    thinking: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Stop>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tool: &'a [Call],
}

impl<'a> Turn<'a> {
    fn of(heard: &'a Heard) -> Self {
        let silent = heard.text.is_empty() && heard.calls.is_empty();
        let text = if silent { "(nothing was said)" } else { &heard.text };
        Self { thinking: &heard.thinking, text, stop: heard.stop, usage: heard.usage, tool: &heard.calls }
    }

    fn missing() -> Self {
        Self { thinking: "", text: "(this turn was not recorded)", stop: None, usage: None, tool: &[] }
    }
}

fn clean(mut heard: Heard, secrets: &[String]) -> Heard {
    heard.thinking = clean_text(&heard.thinking, secrets);
    heard.text = clean_text(&heard.text, secrets);
    for call in &mut heard.calls {
        call.name = clean_text(&call.name, secrets);
        let input = std::mem::take(&mut call.input).into_iter();
        call.input = input
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (clean_text(&name, secrets), clean_value(value, secrets)))
            .collect();
    }
    heard
}

/// Also without nulls, for which TOML has no word.
fn clean_value(value: Value, secrets: &[String]) -> Value {
    match value {
        Value::String(text) => Value::String(clean_text(&text, secrets)),
        Value::Array(items) => {
            let items = items.into_iter().filter(|item| !item.is_null());
            items.map(|item| clean_value(item, secrets)).collect()
        }
        Value::Object(members) => {
            let members = members.into_iter().filter(|(_, value)| !value.is_null());
            let clean =
                members.map(|(name, value)| (clean_text(&name, secrets), clean_value(value, secrets)));
            Value::Object(clean.collect())
        }
        other => other,
    }
}

fn clean_text(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, REMOVED);
    }
    for mark in MARKS {
        text = without(&text, mark);
    }
    text
}

/// The text without what begins with the mark and goes on like a key.
fn without(text: &str, mark: &str) -> String {
    let of_key = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let (mut clean, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(mark) {
        clean.push_str(before);
        let length = after.chars().take_while(of_key).count();
        // All of them are one byte long.
        let (key, left) = after.split_at(length);
        let in_a_word = before.chars().next_back().is_some_and(char::is_alphanumeric);
        if length >= FEWEST && !in_a_word {
            clean.push_str(REMOVED);
        } else {
            clean.push_str(mark);
            clean.push_str(key);
        }
        rest = left;
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_and_words_stay() {
        let clean = |text| clean_text(text, &["hunter22".to_owned()]);
        assert_eq!(clean("key=sk-ant-api03-AbCdEf012345, ok"), "key=[removed], ok");
        assert_eq!(clean("in org-A1b2C3d4E5f6G7 it is hunter22"), "in [removed] it is [removed]");
        for text in ["task-force-is-a-long-word", "sk-1", "org-mode", "a-sk-", "", "ask-sk-short é"] {
            assert_eq!(clean(text), text);
        }
    }
}
