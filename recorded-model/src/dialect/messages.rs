//! Anthropic's Messages: <https://docs.anthropic.com/en/api/messages> and, for the events, `messages-streaming`.

use serde_json::{Value, json};

use crate::reply::{NamedCall, Reply, argument_deltas, words};
use crate::script::{Stop, Usage};
use crate::stream::Frame;

/// The provider's own seal of a thought, which only it can read.
const SIGNATURE: &str = "recorded";

pub(super) fn whole(reply: &Reply) -> Value {
    let thinking = (!reply.thinking.is_empty())
        .then(|| json!({"type": "thinking", "thinking": reply.thinking, "signature": SIGNATURE}));
    let text = (!reply.text.is_empty()).then(|| json!({"type": "text", "text": reply.text}));
    let calls = reply
        .calls
        .iter()
        .map(|call| json!({"type": "tool_use", "id": call_id(call), "name": call.name, "input": call.input}));
    let content: Vec<Value> = thinking.into_iter().chain(text).chain(calls).collect();
    message(reply, &json!(content), &json!(stop_reason(reply)), reply.usage.output)
}

pub(super) fn frames(reply: &Reply) -> Vec<Frame> {
    // The real stream opens with one output token and corrects it in `message_delta`.
    let opening = message(reply, &json!([]), &Value::Null, 1);
    let mut frames =
        vec![event(&json!({"type": "message_start", "message": opening})), event(&json!({"type": "ping"}))];
    let mut index = 0;
    if !reply.thinking.is_empty() {
        let deltas = words(&reply.thinking).map(|text| json!({"type": "thinking_delta", "thinking": text}));
        let signed = std::iter::once(json!({"type": "signature_delta", "signature": SIGNATURE}));
        let start = json!({"type": "thinking", "thinking": "", "signature": ""});
        block(&mut frames, index, &start, deltas.chain(signed));
        index += 1;
    }
    if !reply.text.is_empty() {
        let deltas = reply.text_deltas().map(|text| json!({"type": "text_delta", "text": text}));
        block(&mut frames, index, &json!({"type": "text", "text": ""}), deltas);
        index += 1;
    }
    for call in &reply.calls {
        let start = json!({"type": "tool_use", "id": call_id(call), "name": call.name, "input": {}});
        let deltas = argument_deltas(&call.arguments());
        let deltas = deltas.iter().map(|part| json!({"type": "input_json_delta", "partial_json": part}));
        block(&mut frames, index, &start, deltas);
        index += 1;
    }
    frames.push(event(&json!({
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason(reply), "stop_sequence": null},
        "usage": usage(reply.usage, reply.usage.output),
    })));
    frames.push(event(&json!({"type": "message_stop"})));
    frames
}

pub(super) fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}})
}

fn block(frames: &mut Vec<Frame>, index: usize, start: &Value, deltas: impl Iterator<Item = Value>) {
    frames.push(event(&json!({"type": "content_block_start", "index": index, "content_block": start})));
    frames.extend(
        deltas.map(|delta| {
            event(&json!({"type": "content_block_delta", "index": index, "delta": delta})).paced()
        }),
    );
    frames.push(event(&json!({"type": "content_block_stop", "index": index})));
}

fn message(reply: &Reply, content: &Value, stop_reason: &Value, output: u64) -> Value {
    json!({
        "id": format!("msg_{}", reply.label),
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": usage(reply.usage, output),
    })
}

fn usage(usage: Usage, output: u64) -> Value {
    json!({
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": output,
    })
}

fn stop_reason(reply: &Reply) -> &'static str {
    match reply.stop {
        Some(Stop::Length) => "max_tokens",
        None if reply.calls.is_empty() => "end_turn",
        None => "tool_use",
    }
}

fn call_id(call: &NamedCall) -> String {
    format!("toolu_{}", call.label)
}

/// An event whose name is its type, as all of Anthropic's are.
fn event(data: &Value) -> Frame {
    Frame::event(data["type"].as_str().unwrap_or_default(), data)
}
