use bytes::Bytes;
use proptest::prelude::{ProptestConfig as Config, Strategy, any, prop_assert, proptest};
use serde_json::{Value, json};

use super::*;
use crate::provider::Api;

const IMAGE: u64 = 4_784;

/// One conversation, as an agent that is up to no good may change it.
#[derive(Debug, Clone, Default)]
struct Conversation {
    messages: Vec<Value>,
    marked: bool,
    thinking: bool,
    clears: bool,
    tools: u8,
    deferred: bool,
    typed: bool,
    system: u8,
    beta: bool,
    haiku: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Say(u16),
    Image,
    Think(u16),
    Result(u16),
    Refer,
    Twice,
    Pop,
    Change(u16),
    Toggle(u8),
}

fn step() -> impl Strategy<Value = Step> {
    (0..9_u8, any::<u16>()).prop_map(|(kind, n)| match kind {
        0 => Step::Say(n % 7_000),
        1 => Step::Image,
        2 => Step::Think(n % 7_000),
        3 => Step::Result(n % 7_000),
        4 => Step::Refer,
        5 => Step::Twice,
        6 => Step::Pop,
        7 => Step::Change(n % 7_000),
        _ => Step::Toggle((n % 8) as u8),
    })
}

/// Bytes that each message carries beside what it says, counted with a header alone.
const WRAPPING: u64 = 900;

fn wrap(mut message: Value) -> Value {
    message["wrapping"] = json!("w".repeat(900));
    message
}

fn user(block: &Value) -> Value {
    json!({"role": "user", "content": [block]})
}

impl Conversation {
    fn take(&mut self, step: &Step) {
        let text = |n: &u16| "a".repeat(usize::from(*n));
        match step {
            Step::Say(n) => self.messages.push(json!({"role": "user", "content": text(n)})),
            Step::Image => self.messages.push(user(&json!({"type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}))),
            Step::Think(n) => self.messages.push(json!({"role": "assistant", "content": [
                {"type": "thinking", "thinking": text(n), "signature": ""},
                {"type": "tool_use", "id": "t", "name": "n", "input": {}}]})),
            Step::Result(n) => {
                self.messages
                    .push(user(&json!({"type": "tool_result", "tool_use_id": "t", "content": text(n)})));
            }
            Step::Refer => self.messages.push(user(&json!({"type": "tool_result", "tool_use_id": "t",
                "content": [{"type": "tool_reference", "tool_name": "n"}]}))),
            Step::Twice => self.messages.extend(self.messages.last().cloned()),
            Step::Pop => drop(self.messages.pop()),
            Step::Change(n) => {
                let at = usize::from(*n) % self.messages.len().max(1);
                if let Some(message) = self.messages.get_mut(at) {
                    *message = json!({"role": "user", "content": text(n)});
                }
            }
            Step::Toggle(which) => match which {
                0 => self.marked ^= true,
                1 => self.thinking ^= true,
                2 => self.clears ^= true,
                3 => self.tools ^= 1,
                4 => self.deferred ^= true,
                5 => self.typed ^= true,
                6 => self.system ^= 1,
                _ => (self.beta, self.haiku) = (!self.beta, self.haiku ^ self.beta),
            },
        }
    }

    fn body(&self) -> Value {
        let messages: Vec<Value> = self.messages.iter().cloned().map(wrap).collect();
        let mut body = json!({
            "model": if self.haiku { "haiku" } else { "opus" },
            "max_tokens": 9, "messages": messages,
            "system": [{"type": "text", "text": "s".repeat(3_000 + usize::from(self.system))}],
            "tools": [{"name": "n", "description": "d".repeat(4_000 + usize::from(self.tools)), "input_schema": {}}],
        });
        if self.marked {
            body["system"][0]["cache_control"] = json!({"type": "ephemeral"});
            for message in body["messages"].as_array_mut().unwrap() {
                if let Some(text) = message["content"].as_str().map(str::to_owned) {
                    let mark = json!({"type": "ephemeral"});
                    message["content"] = json!([{"type": "text", "text": text, "cache_control": mark}]);
                }
            }
        }
        if self.thinking {
            body["thinking"] = json!({"type": "enabled", "budget_tokens": 2_000});
        }
        if self.clears {
            body["context_management"] = json!({"edits": [{"type": "clear_tool_uses_20250919"}]});
        }
        if self.deferred {
            body["tools"][0]["defer_loading"] = json!(true);
        }
        if self.typed {
            body["tools"].as_array_mut().unwrap().push(json!({"type": "bash_20250124", "name": "bash"}));
        }
        body
    }

    /// What a provider counts whose every byte of text is a token, and which drops what providers drop.
    fn counted(&self) -> u64 {
        let refers = self.messages.iter().any(|message| message.to_string().contains("tool_reference"));
        let mut tokens = 20 + 3_000 + u64::from(self.system);
        if !self.deferred || refers {
            tokens += 4_000 + u64::from(self.tools);
        }
        tokens += if self.typed { 700 } else { 0 };
        let last_said = self
            .messages
            .iter()
            .rposition(|message| message["role"] == "user" && message["content"][0]["type"] != "tool_result");
        let mut results = 0;
        for (at, message) in self.messages.iter().enumerate() {
            let block = &message["content"][0];
            let length = |value: &Value| value.as_str().map_or(0, |text| text.len() as u64);
            tokens += 4 + length(&message["content"]);
            match block["type"].as_str() {
                Some("image") => tokens += IMAGE,
                Some("thinking") if self.thinking && last_said.is_none_or(|said| at > said) => {
                    tokens += length(&block["thinking"]);
                }
                Some("tool_result") => results += length(&block["content"]),
                _ => {}
            }
        }
        // Without this header it counts nothing of what each turn was wrapped in; the other model counts half as much.
        let wrapped = if self.beta { WRAPPING * self.messages.len() as u64 } else { 0 };
        let cleared = self.clears && tokens + results > 9_000;
        tokens += wrapped + if cleared { 0 } else { results };
        if self.haiku { tokens / 2 } else { tokens }
    }
}

fn headers(beta: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if beta {
        headers.insert("anthropic-beta", "counts-more".parse().unwrap());
    }
    headers
}

/// The bound of a request, what it is by bytes alone, and after that its lesson.
fn ask(counted: &Counted, conversation: &Conversation) -> (u64, u64) {
    let task: Arc<str> = "t".into();
    let sent = Bytes::from(serde_json::to_vec(&conversation.body()).unwrap());
    let request = Request::read(Api::Messages, &sent, counted.hashes()).unwrap();
    let terms = counted.terms(&request, &headers(conversation.beta));
    let bound = counted.bound(&task, &request.outline, terms, IMAGE);
    if let Some(what) = request.outline.fingerprint(terms) {
        counted.learn(&task, what, conversation.counted());
    }
    (bound, request.outline.worst(IMAGE))
}

proptest! {
    #![proptest_config(Config { cases: 96, ..Config::default() })]
    #[test]
    fn a_bound_is_never_below_what_is_counted(
        steps in proptest::collection::vec(proptest::collection::vec(step(), 1..4), 1..24),
    ) {
        let counted = Counted::default();
        let mut conversation = Conversation::default();
        for steps in steps {
            steps.iter().for_each(|step| conversation.take(step));
            let (bound, worst) = ask(&counted, &conversation);
            prop_assert!(bound <= worst);
            prop_assert!(conversation.counted() <= bound, "{} > {bound}: {conversation:?}", conversation.counted());
        }
    }
}

#[test]
fn a_conversation_that_goes_on_is_bounded_by_what_is_new() {
    let counted = Counted::default();
    let mut conversation = Conversation::default();
    conversation.take(&Step::Say(40_000));
    assert_eq!(ask(&counted, &conversation).0, ask(&Counted::default(), &conversation).1);
    for marked in [false, true, false] {
        conversation.marked = marked;
        conversation.take(&Step::Result(500));
        let before = conversation.counted();
        let (bound, worst) = ask(&counted, &conversation);
        assert!((before..before + 4_000).contains(&bound), "{bound} for {before}, {worst} by bytes");
    }
    // One that is not its beginning says nothing.
    conversation.messages[0] = json!({"role": "user", "content": "b".repeat(40_000)});
    let (bound, worst) = ask(&counted, &conversation);
    assert_eq!(bound, worst);
}

#[test]
fn what_is_remembered_is_bounded() {
    let counted = Counted::default();
    let what = |n: u64| Fingerprint { terms: n, system: 0, tools: 0, elements: 0, conversation: 0 };
    for task in 0..=TASKS {
        for request in 0..=(REMEMBERED as u64) {
            counted.learn(&format!("t{task}").into(), what(request), 1);
        }
    }
    let tasks = counted.tasks();
    assert_eq!(tasks.known.len(), TASKS);
    assert!(!tasks.known.contains_key("t0"));
    assert!(tasks.known.values().all(|known| known.requests.len() == REMEMBERED));
}
