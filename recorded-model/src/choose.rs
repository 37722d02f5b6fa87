//! Which turn answers a request. Pure: a script and a request in, an answer out.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::reply::{NamedCall, Reply};
use crate::script::{Fault, Script, Turn, Usage};

/// What side requests are told: agent CLIs ask for a title of the conversation without declaring tools.
pub const SIDE_ANSWER: &str = "Recorded conversation";

/// Bytes counted as one token where the script gives no usage.
pub const BYTES_A_TOKEN: usize = 4;

/// What a request asks for, whatever the provider's words are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// The model's name.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether a stream is to end with its usage (Chat Completions leaves it out unless asked).
    pub usage_in_stream: bool,
    /// The names of the tools that the request declares.
    pub tools: BTreeSet<String>,
    /// The assistant turns that the request already holds.
    pub answered: usize,
    /// The size of the request's body in bytes.
    pub bytes: usize,
}

/// How a request is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// With an error of the provider.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// What the provider says.
        message: String,
        /// Seconds after which the client may come again, where it is told.
        retry_after: Option<u64>,
    },
    /// With a reply.
    Play {
        /// What is said and called.
        reply: Reply,
        /// The wait before each delta.
        delay: Duration,
        /// What happens after half of the deltas.
        ending: Ending,
    },
}

/// What becomes of a reply half-way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Nothing: it is told to its end.
    Whole,
    /// The provider reports this error in the stream.
    Failed(String),
    /// The connection is cut.
    Cut,
    /// Nothing more comes, and the connection stays open.
    Hang,
}

/// The answer to a request: the turn after those that the request holds.
///
/// A turn that calls tools cannot be meant for a request that declares none: that is a side request, which
/// gets [`SIDE_ANSWER`]. After the last turn the script's last words are repeated, so the agent stops.
#[must_use]
pub fn choose(script: &Script, asked: &Asked) -> Answer {
    let Some(turn) = script.turn(asked.answered) else {
        return say(script.last_words(), asked);
    };
    let ending = match &turn.fault {
        Some(Fault::Refused { status, message, retry_after }) => {
            return Answer::Refuse { status: *status, message: message.clone(), retry_after: *retry_after };
        }
        _ if !turn.tools.is_empty() && asked.tools.is_empty() => return say(SIDE_ANSWER, asked),
        Some(Fault::Failed(message)) => Ending::Failed(message.clone()),
        Some(Fault::Cut) => Ending::Cut,
        Some(Fault::Hang) => Ending::Hang,
        None => Ending::Whole,
    };
    match calls(turn, asked) {
        Ok(calls) => {
            let mut reply = reply(turn.thinking.clone(), turn.text.clone(), asked, calls);
            reply.usage = turn.usage.unwrap_or(reply.usage);
            reply.stop = turn.stop;
            Answer::Play { reply, delay: turn.delay, ending }
        }
        Err(message) => Answer::Refuse { status: 400, message, retry_after: None },
    }
}

fn calls(turn: &Turn, asked: &Asked) -> Result<Vec<NamedCall>, String> {
    let named = turn.tools.iter().enumerate().map(|(index, tool)| {
        let call = tool.pick(|name| asked.tools.contains(name)).ok_or_else(|| {
            format!(
                "turn {} of the recording calls {}, but the request declares {}: add an alternative",
                asked.answered + 1,
                tool.names().collect::<Vec<_>>().join(" or "),
                asked.tools.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
            )
        })?;
        let label = format!("recorded{}x{index}", asked.answered);
        Ok(NamedCall { label, name: call.name.clone(), input: call.input.clone() })
    });
    named.collect()
}

fn say(text: &str, asked: &Asked) -> Answer {
    let reply = reply(String::new(), text.to_owned(), asked, Vec::new());
    Answer::Play { reply, delay: Duration::ZERO, ending: Ending::Whole }
}

fn reply(thinking: String, text: String, asked: &Asked, calls: Vec<NamedCall>) -> Reply {
    let said = thinking.len() + text.len() + calls.iter().map(|call| call.arguments().len()).sum::<usize>();
    let usage = Usage { input: tokens(asked.bytes), output: tokens(said), cache_read: 0, cache_write: 0 };
    Reply {
        label: format!("recorded{}", asked.answered),
        model: asked.model.clone(),
        thinking,
        text,
        calls,
        usage,
        stop: None,
    }
}

/// The tokens that so many bytes are counted as: at least one.
#[must_use]
pub fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(BYTES_A_TOKEN).max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"
        [[turn]]
        text = "I write."
        usage = { input = 1200, output = 80 }
        [[turn.tool]]
        name = "Write"
        input = { file_path = "a" }
        [[turn.tool.or]]
        name = "write"
        input = { filePath = "a" }
        [[turn]]
        text = "Done so."
        [[turn]]
        status = 402
    "#;

    fn asked(answered: usize, tools: &[&str]) -> Asked {
        let tools = tools.iter().map(|&name| name.to_owned()).collect();
        Asked { model: "m".to_owned(), answered, tools, bytes: 8, ..Asked::default() }
    }

    fn played(answered: usize, tools: &[&str]) -> Reply {
        match choose(&Script::from_toml(SCRIPT).unwrap(), &asked(answered, tools)) {
            Answer::Play { reply, .. } => reply,
            refused @ Answer::Refuse { .. } => panic!("{refused:?}"),
        }
    }

    #[test]
    fn the_call_is_the_one_that_the_request_declares() {
        assert_eq!(played(0, &["Bash", "Write"]).calls[0].input["file_path"], "a");
        assert_eq!(played(0, &["bash", "write"]).calls[0].input["filePath"], "a");
        assert_eq!(played(0, &["write"]).usage.input, 1200);
    }

    #[test]
    fn an_undeclared_tool_is_refused_by_name() {
        let answer = choose(&Script::from_toml(SCRIPT).unwrap(), &asked(0, &["exec_command"]));
        let Answer::Refuse { status: 400, message, .. } = answer else { panic!("{answer:?}") };
        assert!(message.contains("Write or write") && message.contains("exec_command"), "{message}");
    }

    #[test]
    fn a_side_request_gets_a_title() {
        assert_eq!(played(0, &[]).text, SIDE_ANSWER);
        assert_eq!(played(1, &[]).text, "Done so.");
    }

    #[test]
    fn after_the_last_turn_come_the_last_words() {
        let reply = played(3, &["write"]);
        assert_eq!((reply.text.as_str(), reply.calls.len()), ("Done so.", 0));
        assert_eq!(reply.usage.input, 2);
    }

    #[test]
    fn a_retry_gets_the_same_answer_and_a_later_turn_another_label() {
        assert_eq!(played(0, &["write"]), played(0, &["write"]));
        assert_ne!(played(0, &["write"]).label, played(1, &["write"]).label);
    }

    #[test]
    fn a_recorded_refusal_is_told() {
        let answer = choose(&Script::from_toml(SCRIPT).unwrap(), &asked(2, &["write"]));
        let message = "recorded refusal".to_owned();
        assert_eq!(answer, Answer::Refuse { status: 402, message, retry_after: None });
    }
}
