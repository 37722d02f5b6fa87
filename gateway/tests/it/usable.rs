//! How much of a budget can be spent before the first refusal. Conversations begin as the real CLIs began them
//! (`tests/data`: what they sent, its long texts replaced by others of their length). They are begun again whenever
//! they have come to their end, or go on in the same way, until the money is gone. The provider counts a token for about three and a half bytes, and finds all that it
//! was sent before in its cache.

use std::sync::Arc;

use bytes::Bytes;
use gateway::{
    account::{Account, decide},
    body::Request,
    counted::Counted,
    prices::{ModelPrice, table},
    provider::Api,
    tokens::Tokens,
};
use http::HeaderMap;
use serde_json::{Value, json};

const WORDS: &str =
    "the list of parts holds one line for each name, and what it is made of; nobody asks twice.\n";

/// A text of so many bytes; texts of other numbers differ.
fn filler(bytes: usize, number: usize) -> String {
    let start = number * 7 % WORDS.len();
    WORDS.chars().cycle().skip(start).take(bytes).collect()
}

/// Puts texts where the recording says how long they were: `~BYTES~NUMBER~`.
fn unpack(value: &mut Value) {
    match value {
        Value::String(text) => {
            let parts: Vec<&str> = text.split('~').collect();
            if let ["", bytes, number, ""] = parts.as_slice()
                && let (Ok(bytes), Ok(number)) = (bytes.parse(), number.parse())
            {
                *text = filler(bytes, number);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(unpack),
        Value::Object(fields) => fields.values_mut().for_each(unpack),
        _ => {}
    }
}

/// A conversation that never ends.
struct Conversation {
    api: Api,
    /// All but the elements.
    frame: Value,
    /// The elements, each with what it looks like as JSON: to write the same ones anew takes longest.
    elements: Vec<(Value, String)>,
    recorded: Vec<Value>,
    /// What a turn adds.
    turn: Vec<Value>,
    turns: usize,
}

impl Conversation {
    fn recorded(name: &str, api: Api) -> Self {
        let file = format!("{}/tests/data/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let mut recording: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        unpack(&mut recording);
        let mut recorded = recording["next"].as_array().unwrap().clone();
        recorded.reverse();
        let mut frame = recording["first"].clone();
        let elements = frame.as_object_mut().unwrap().remove(Self::field(api)).unwrap();
        let mut talk = Self { api, frame, elements: Vec::new(), recorded, turn: Vec::new(), turns: 0 };
        elements.as_array().unwrap().iter().for_each(|element| talk.push(element.clone()));
        talk
    }

    fn field(api: Api) -> &'static str {
        if api == Api::Responses { "input" } else { "messages" }
    }

    fn push(&mut self, element: Value) {
        let text = element.to_string();
        self.elements.push((element, text));
    }

    fn body(&self) -> Bytes {
        let frame = self.frame.to_string();
        let elements: Vec<&str> = self.elements.iter().map(|(_, text)| text.as_str()).collect();
        let field = Self::field(self.api);
        format!("{},\"{field}\":[{}]}}", frame.strip_suffix('}').unwrap(), elements.join(",")).into()
    }

    /// The next request: as recorded, and then by more of the same, its cache marks at the end.
    fn go_on(&mut self) {
        self.turns += 1;
        if let Some(changes) = self.recorded.pop() {
            let before = self.elements.len();
            for change in changes.as_array().unwrap() {
                let at = usize::try_from(change["at"].as_u64().unwrap()).unwrap();
                let element = change["element"].clone();
                match self.elements.get_mut(at) {
                    Some(old) => *old = (element.clone(), element.to_string()),
                    None => self.push(element),
                }
            }
            self.turn = self.elements[before..].iter().map(|(element, _)| element.clone()).collect();
            return;
        }
        for (element, text) in &mut self.elements {
            if text.contains("cache_control") {
                unmark(element);
                *text = element.to_string();
            }
        }
        for (at, mut element) in self.turn.clone().into_iter().enumerate() {
            // What a tool says is now short, now long: 3,500 bytes on the average.
            resize(&mut element, [700, 1_500, 9_000, 2_800][self.turns % 4], self.turns * 5 + at);
            self.push(element);
        }
    }
}

fn unmark(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("cache_control");
            fields.values_mut().for_each(unmark);
        }
        Value::Array(list) => list.iter_mut().for_each(unmark),
        _ => {}
    }
}

/// Gives a recorded tool's long answer another length.
fn resize(value: &mut Value, bytes: usize, number: usize) {
    match value {
        Value::String(text) if text.len() > 1_000 => *text = filler(bytes, number),
        Value::Object(fields) => fields.values_mut().for_each(|value| resize(value, bytes, number)),
        Value::Array(list) => list.iter_mut().for_each(|value| resize(value, bytes, number)),
        _ => {}
    }
}

/// What the provider counts.
fn count(body: &Bytes) -> u64 {
    300 + body.len() as u64 * 2 / 7
}

struct Spent {
    percent: f64,
    requests: usize,
    kilobytes: usize,
}

/// What follows when all that was recorded is said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The conversation is begun again.
    Anew,
    /// More of the same: one that grows until the money is gone.
    On,
    /// The same, by the bytes alone.
    OnForgetfully,
}

/// Talks until the first refusal.
fn spend(begin: impl Fn() -> Conversation, price: &ModelPrice, then: Then) -> Spent {
    let mut talk = begin();
    let task: Arc<str> = "t".into();
    let counted = Counted::default();
    let mut account = Account { limit: "5".parse().ok(), ..Account::default() };
    let (mut before, mut requests) = (0, 0);
    loop {
        let sent = talk.body();
        let request = Request::read(talk.api, &sent, counted.hashes()).unwrap();
        let terms = counted.terms(&request, &HeaderMap::new());
        let bound = counted.bound(&task, &request.outline, terms, request.image_tokens());
        let Some(grant) = decide(account.free(), &request.ask(price, bound)) else {
            let dollars = |usd: protocol::Usd| usd.nanos() as f64;
            let percent = 100.0 * dollars(account.spent) / dollars(account.limit.unwrap());
            return Spent { percent, requests, kilobytes: sent.len() / 1024 };
        };
        let input = count(&sent);
        assert!(input <= bound, "{input} tokens passed the bound {bound}");
        if then != Then::OnForgetfully {
            counted.learn(&task, request.outline.fingerprint(terms).unwrap(), input);
        }
        let tokens = Tokens {
            cache_write_5m: input - before,
            cache_read: before,
            output: grant.output_tokens.min([250, 400, 1_400, 300][requests % 4]),
            ..Tokens::default()
        };
        before = input;
        account.held = grant.amount;
        account.settle(grant.amount, price.cost(&tokens));
        requests += 1;
        if then == Then::Anew && talk.recorded.is_empty() {
            (talk, before) = (begin(), 0);
        } else {
            talk.go_on();
        }
    }
}

/// What of a budget is spent at the first refusal, in percent.
#[allow(clippy::print_stdout, reason = "the figures of docs/performance.md")]
fn percent(name: &str, api: Api, model: &str, wanted: Option<&Value>, then: Then) -> f64 {
    let price = table::look_up(api.provider(), "", model).unwrap();
    let talk = || {
        let mut talk = Conversation::recorded(name, api);
        talk.frame["model"] = json!(model);
        if let Some(wanted) = wanted {
            talk.frame[if api == Api::Responses { "max_output_tokens" } else { "max_tokens" }] =
                wanted.clone();
        }
        talk
    };
    let Spent { percent, requests, kilobytes } = spend(talk, &price, then);
    println!(
        "{name}, {model}, {}, asks for {}: {percent:.1} % in {requests} requests, the last of {kilobytes} KiB",
        if then == Then::Anew { "as recorded" } else { "going on" },
        wanted.map_or_else(|| "what was recorded".to_owned(), Value::to_string),
    );
    if wanted.is_none() && then == Then::On {
        println!("by bytes alone: {:.1} %", spend(talk, &price, Then::OnForgetfully).percent);
    }
    percent
}

#[test]
fn of_a_budget_for_what_was_recorded() {
    for (name, api, model) in [
        ("claude-code", Api::Messages, "claude-opus-4-5"),
        ("claude-code", Api::Messages, "claude-sonnet-4-5"),
        ("codex", Api::Responses, "gpt-5.1-codex"),
        ("opencode-messages", Api::Messages, "claude-opus-4-5"),
        ("opencode-messages", Api::Messages, "claude-sonnet-4-5"),
        ("opencode-responses", Api::Responses, "gpt-5.1-codex"),
        ("opencode-chat", Api::Chat, "gpt-5.1"),
    ] {
        assert!(percent(name, api, model, None, Then::Anew) >= 90.0, "{name} with {model}");
    }
}

#[test]
fn of_a_budget_for_claude() {
    for wanted in [None, Some(json!(64_000)), Some(Value::Null)] {
        assert!(
            percent("claude-code", Api::Messages, "claude-opus-4-5", wanted.as_ref(), Then::On)
                > LEAST_CLAUDE
        );
    }
    assert!(percent("claude-code", Api::Messages, "claude-sonnet-4-5", None, Then::On) > LEAST_CLAUDE);
    assert!(percent("opencode-messages", Api::Messages, "claude-opus-4-5", None, Then::On) > LEAST_CLAUDE);
    assert!(percent("claude-code", Api::Messages, "claude-opus-4-1", None, Then::On) > LEAST_CLAUDE_4_1);
}

#[test]
fn of_a_budget_for_codex() {
    for wanted in [None, Some(json!(64_000))] {
        assert!(percent("codex", Api::Responses, "gpt-5.1-codex", wanted.as_ref(), Then::On) > LEAST_GPT);
    }
}

#[test]
fn of_a_budget_for_opencode() {
    assert!(percent("opencode-responses", Api::Responses, "gpt-5.1-codex", None, Then::On) > LEAST_GPT);
    assert!(percent("opencode-chat", Api::Chat, "gpt-5.1", Some(&Value::Null), Then::On) > LEAST_GPT);
}

/// GPT's prices make no difference between what a cache has and what it may turn out not to have but for the
/// discount: what stays is the input of one request.
const LEAST_GPT: f64 = 90.0;
/// All of a request's input may have to be written to the cache again, at one and a quarter of the price of input,
/// though it usually costs a tenth: so much must be left for one more.
const LEAST_CLAUDE: f64 = 85.0;
/// The same at three times the price.
const LEAST_CLAUDE_4_1: f64 = 75.0;
