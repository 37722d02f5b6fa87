//! What a real answer says, whichever provider wrote it down: the other direction of [`crate::dialect`]. Pure.

use serde_json::{Map, Value};

use crate::dialect::Dialect;
use crate::script::{Call, Stop, Usage};

/// One answer of a model, complete.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heard {
    /// What it thought, without what seals it. Anthropic's alone: OpenAI shows no thoughts.
    pub thinking: String,
    /// What it said.
    pub text: String,
    /// The tools that it called, in order.
    pub calls: Vec<Call>,
    /// What it reported as used.
    pub usage: Option<Usage>,
    /// Why it stopped, where that was neither its end nor its calls.
    pub stop: Option<Stop>,
}

/// Reads the body of an answer with status 200, streamed or whole. `None` where it is not complete.
#[must_use]
pub fn hear(dialect: Dialect, body: &[u8]) -> Option<Heard> {
    if let Ok(whole) = serde_json::from_slice::<Value>(body) {
        return match dialect {
            Dialect::Messages => message(&whole),
            Dialect::Chat => chat(std::slice::from_ref(&whole), "message"),
            Dialect::Responses => response(&whole),
        };
    }
    let events = events(&String::from_utf8_lossy(body));
    match dialect {
        Dialect::Messages => streamed_message(&events),
        Dialect::Chat => chat(&events, "delta"),
        Dialect::Responses => {
            let last = ["response.completed", "response.incomplete"];
            let ended = events.iter().find(|event| last.iter().any(|kind| event["type"] == *kind))?;
            response(&ended["response"])
        }
    }
}

/// The data of server-sent events, where they are JSON.
fn events(stream: &str) -> Vec<Value> {
    let stream = stream.replace("\r\n", "\n");
    let data = |event: &str| {
        let lines: Vec<_> = event.lines().filter_map(|line| line.strip_prefix("data:")).collect();
        serde_json::from_str(&lines.join("\n")).ok()
    };
    stream.split("\n\n").filter_map(data).collect()
}

fn message(body: &Value) -> Option<Heard> {
    let mut heard = Heard { stop: stop(&body["stop_reason"]), ..Heard::default() };
    for block in body["content"].as_array()? {
        heard.block(block, None);
    }
    heard.usage = message_usage(&body["usage"]);
    Some(heard)
}

/// Blocks are opened, grow by deltas, and are closed; the usage of the end replaces that of the start.
fn streamed_message(events: &[Value]) -> Option<Heard> {
    let mut heard = Heard::default();
    let (mut usage, mut ended) = (Map::new(), false);
    let mut open: Option<(Value, String)> = None;
    for event in events {
        match event["type"].as_str()? {
            "message_start" => usage.extend(known(&event["message"]["usage"])),
            "content_block_start" => open = Some((event["content_block"].clone(), String::new())),
            "content_block_delta" => {
                let delta = &event["delta"];
                let piece =
                    ["text", "thinking", "partial_json"].iter().find_map(|kind| delta[*kind].as_str());
                if let (Some((_, grown)), Some(piece)) = (&mut open, piece) {
                    grown.push_str(piece);
                }
            }
            "content_block_stop" => {
                if let Some((block, grown)) = open.take() {
                    heard.block(&block, Some(&grown));
                }
            }
            "message_delta" => {
                heard.stop = stop(&event["delta"]["stop_reason"]);
                usage.extend(known(&event["usage"]));
            }
            "message_stop" => ended = true,
            "error" => return None,
            _ => {}
        }
    }
    heard.usage = message_usage(&Value::Object(usage));
    ended.then_some(heard)
}

fn known(usage: &Value) -> Map<String, Value> {
    let members = usage.as_object().into_iter().flatten();
    members.filter(|(_, value)| value.is_u64()).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn message_usage(usage: &Value) -> Option<Usage> {
    Some(Usage {
        input: usage["input_tokens"].as_u64()?,
        output: usage["output_tokens"].as_u64()?,
        cache_read: usage["cache_read_input_tokens"].as_u64().unwrap_or(0),
        cache_write: usage["cache_creation_input_tokens"].as_u64().unwrap_or(0),
    })
}

/// A whole answer, or the chunks of a stream: the first choice alone.
fn chat(bodies: &[Value], part: &str) -> Option<Heard> {
    let mut heard = Heard::default();
    let mut calls: Vec<(String, String)> = Vec::new();
    let mut ended = false;
    for body in bodies {
        if let Some(usage) = inclusive_usage(&body["usage"], ["prompt_tokens", "completion_tokens"]) {
            heard.usage = Some(usage);
        }
        let choice = &body["choices"][0];
        let said = &choice[part];
        heard.text.push_str(said["content"].as_str().unwrap_or_default());
        for (index, call) in said["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let index = call["index"].as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or(index);
            if calls.len() <= index {
                calls.resize(index.min(MOST_CALLS) + 1, (String::new(), String::new()));
            }
            let Some((name, arguments)) = calls.get_mut(index) else { continue };
            name.push_str(call["function"]["name"].as_str().unwrap_or_default());
            arguments.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            ended = true;
            heard.stop = (reason == "length").then_some(Stop::Length);
        }
    }
    for (name, arguments) in calls {
        heard.call(&name, &arguments);
    }
    ended.then_some(heard)
}

/// Calls of one answer; more are a stream's nonsense.
const MOST_CALLS: usize = 1_000;

fn response(body: &Value) -> Option<Heard> {
    let mut heard = Heard::default();
    for item in body["output"].as_array()? {
        match item["type"].as_str() {
            Some("message") => {
                let parts = item["content"].as_array().into_iter().flatten();
                heard.text.extend(parts.filter_map(|part| part["text"].as_str()));
            }
            Some("function_call") => heard.call(
                item["name"].as_str().unwrap_or_default(),
                item["arguments"].as_str().unwrap_or_default(),
            ),
            Some("reasoning") | None => {}
            Some(kind) => tracing::warn!("an item of type {kind} cannot be played, and is left out"),
        }
    }
    heard.usage = inclusive_usage(&body["usage"], ["input_tokens", "output_tokens"]);
    heard.stop = (body["status"] == "incomplete").then_some(Stop::Length);
    Some(heard)
}

/// OpenAI counts what was read from the cache as input.
fn inclusive_usage(usage: &Value, [input, output]: [&str; 2]) -> Option<Usage> {
    let details = &usage[format!("{input}_details")];
    let cache_read = details["cached_tokens"].as_u64().unwrap_or(0);
    let input = usage[input].as_u64()?.saturating_sub(cache_read);
    Some(Usage { input, output: usage[output].as_u64()?, cache_read, cache_write: 0 })
}

fn stop(reason: &Value) -> Option<Stop> {
    (reason == "max_tokens").then_some(Stop::Length)
}

impl Heard {
    /// A block of Anthropic's, with what it grew to where it was streamed.
    fn block(&mut self, block: &Value, grown: Option<&str>) {
        match block["type"].as_str() {
            Some("text") => {
                self.text.push_str(block["text"].as_str().unwrap_or_default());
                self.text.push_str(grown.unwrap_or_default());
            }
            Some("thinking") => {
                self.thinking.push_str(block["thinking"].as_str().unwrap_or_default());
                self.thinking.push_str(grown.unwrap_or_default());
            }
            Some("tool_use") => {
                let name = block["name"].as_str().unwrap_or_default();
                match grown {
                    Some(arguments) => self.call(name, if arguments.is_empty() { "{}" } else { arguments }),
                    None => self.call(name, &block["input"].to_string()),
                }
            }
            _ => {}
        }
    }

    fn call(&mut self, name: &str, arguments: &str) {
        match serde_json::from_str(arguments) {
            Ok(Value::Object(input)) => self.calls.push(Call { name: name.to_owned(), input }),
            _ => tracing::warn!("a call of {name} with what is no JSON object is left out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{NamedCall, Reply};
    use crate::stream;
    use serde_json::json;

    fn reply(calls: usize) -> Reply {
        let input = json!({"cmd": "echo \"é\n\n漢\"", "n": [1, {"x": 2}]}).as_object().unwrap().clone();
        let call = |n| NamedCall { label: format!("r{n}"), name: format!("tool{n}"), input: input.clone() };
        Reply {
            label: "r".to_owned(),
            model: "m".to_owned(),
            thinking: "What are\ntwo words?".to_owned(),
            text: "Two words,\n\nand more.".to_owned(),
            calls: (0..calls).map(call).collect(),
            usage: Usage { input: 10, output: 20, cache_read: 30, cache_write: 0 },
            stop: (calls == 0).then_some(Stop::Length),
        }
    }

    #[test]
    fn what_is_played_is_heard_as_it_was_in_all_dialects_streamed_and_whole() {
        for dialect in [Dialect::Messages, Dialect::Chat, Dialect::Responses] {
            for calls in 0..3 {
                let reply = reply(calls);
                let named = |call: &NamedCall| Call { name: call.name.clone(), input: call.input.clone() };
                let thinking = if dialect == Dialect::Messages { &reply.thinking } else { "" };
                let expected = Heard {
                    thinking: thinking.to_owned(),
                    text: reply.text.clone(),
                    calls: reply.calls.iter().map(named).collect(),
                    usage: Some(reply.usage),
                    stop: reply.stop,
                };
                let whole = dialect.whole(&reply).to_string();
                assert_eq!(hear(dialect, whole.as_bytes()).unwrap(), expected, "{dialect:?}");
                let frames = dialect.frames(&reply, true);
                let streamed = stream::text(&frames);
                assert_eq!(hear(dialect, streamed.as_bytes()).unwrap(), expected, "{dialect:?}");
                let half = stream::text(&stream::first_half(frames));
                assert_eq!(hear(dialect, half.as_bytes()), None, "{dialect:?}: half an answer is none");
            }
        }
    }
}
