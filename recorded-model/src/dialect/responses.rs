//! OpenAI's Responses: <https://platform.openai.com/docs/api-reference/responses> and `responses-streaming`.

use serde_json::{Value, json};

use super::CREATED;
use crate::reply::{NamedCall, Reply, argument_deltas};
use crate::script::{Stop, Usage};
use crate::stream::Frame;

/// Whether an item of `input` is something that the model said: a message of the assistant, a call, a
/// reasoning, or a reference to one of these.
pub(super) fn is_of_the_assistant(item: &Value) -> bool {
    match item["type"].as_str() {
        None | Some("message") => item["role"] == "assistant",
        Some("reasoning" | "item_reference") => true,
        Some(kind) => kind.ends_with("_call"),
    }
}

pub(super) fn whole(reply: &Reply) -> Value {
    let said =
        (!reply.text.is_empty()).then(|| message_item(reply, "completed", &json!([text(&reply.text)])));
    let calls = reply.calls.iter().map(|call| call_item(call, "completed", &call.arguments()));
    let output: Vec<Value> = said.into_iter().chain(calls).collect();
    match reply.stop {
        None => response(reply, "completed", &json!(output), &usage(reply.usage)),
        Some(Stop::Length) => {
            let mut response = response(reply, "incomplete", &json!(output), &usage(reply.usage));
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
            response
        }
    }
}

pub(super) fn frames(reply: &Reply) -> Vec<Frame> {
    let mut events = Events::default();
    let opening = response(reply, "in_progress", &json!([]), &Value::Null);
    events.push("response.created", json!({"response": opening}));
    events.push("response.in_progress", json!({"response": opening}));
    let mut index = 0;
    if !reply.text.is_empty() {
        say(&mut events, index, reply);
        index += 1;
    }
    for call in &reply.calls {
        announce(&mut events, index, call);
        index += 1;
    }
    let last = if reply.stop.is_some() { "response.incomplete" } else { "response.completed" };
    events.push(last, json!({"response": whole(reply)}));
    events.frames
}

/// The event of a response that ends in an error.
pub(super) fn failed(message: &str) -> Frame {
    let response = json!({
        "id": "resp_recorded_failure",
        "object": "response",
        "created_at": CREATED,
        "status": "failed",
        "error": {"code": "server_error", "message": message},
        "output": [],
    });
    Frame::event("response.failed", &json!({"type": "response.failed", "response": response}))
}

fn say(events: &mut Events, index: usize, reply: &Reply) {
    let id = message_id(reply);
    let place = json!({"item_id": id, "output_index": index, "content_index": 0});
    let item = message_item(reply, "in_progress", &json!([]));
    events.push("response.output_item.added", json!({"output_index": index, "item": item}));
    events.push("response.content_part.added", with(&place, "part", text("")));
    for delta in reply.text_deltas() {
        let mut body = with(&place, "delta", json!(delta));
        body["logprobs"] = json!([]);
        events.push_paced("response.output_text.delta", body);
    }
    let mut done = with(&place, "text", json!(reply.text));
    done["logprobs"] = json!([]);
    events.push("response.output_text.done", done);
    events.push("response.content_part.done", with(&place, "part", text(&reply.text)));
    let item = message_item(reply, "completed", &json!([text(&reply.text)]));
    events.push("response.output_item.done", json!({"output_index": index, "item": item}));
}

fn announce(events: &mut Events, index: usize, call: &NamedCall) {
    let arguments = call.arguments();
    let place = json!({"item_id": format!("fc_{}", call.label), "output_index": index});
    let item = call_item(call, "in_progress", "");
    events.push("response.output_item.added", json!({"output_index": index, "item": item}));
    for delta in argument_deltas(&arguments) {
        events.push_paced("response.function_call_arguments.delta", with(&place, "delta", json!(delta)));
    }
    events.push("response.function_call_arguments.done", with(&place, "arguments", json!(arguments)));
    let item = call_item(call, "completed", &arguments);
    events.push("response.output_item.done", json!({"output_index": index, "item": item}));
}

/// Events in the order of their `sequence_number`.
#[derive(Default)]
struct Events {
    frames: Vec<Frame>,
}

impl Events {
    fn push(&mut self, kind: &str, body: Value) {
        let frame = self.numbered(kind, body);
        self.frames.push(frame);
    }

    fn push_paced(&mut self, kind: &str, body: Value) {
        let frame = self.numbered(kind, body).paced();
        self.frames.push(frame);
    }

    fn numbered(&self, kind: &str, mut body: Value) -> Frame {
        body["type"] = json!(kind);
        body["sequence_number"] = json!(self.frames.len());
        Frame::event(kind, &body)
    }
}

fn with(place: &Value, name: &str, value: Value) -> Value {
    let mut body = place.clone();
    body[name] = value;
    body
}

fn response(reply: &Reply, status: &str, output: &Value, usage: &Value) -> Value {
    json!({
        "id": format!("resp_{}", reply.label),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "metadata": {},
        "model": reply.model,
        "output": output,
        "parallel_tool_calls": true,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    })
}

fn usage(usage: Usage) -> Value {
    let input = usage.input + usage.cache_read + usage.cache_write;
    json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": usage.cache_read},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input + usage.output,
    })
}

fn message_item(reply: &Reply, status: &str, content: &Value) -> Value {
    json!({"id": message_id(reply), "type": "message", "status": status, "role": "assistant", "content": content})
}

fn call_item(call: &NamedCall, status: &str, arguments: &str) -> Value {
    json!({
        "id": format!("fc_{}", call.label),
        "type": "function_call",
        "status": status,
        "call_id": format!("call_{}", call.label),
        "name": call.name,
        "arguments": arguments,
    })
}

fn message_id(reply: &Reply) -> String {
    format!("msg_{}", reply.label)
}

fn text(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}
