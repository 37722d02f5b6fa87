//! OpenAI's Chat Completions: <https://platform.openai.com/docs/api-reference/chat>.

use serde_json::{Value, json};

use super::CREATED;
use crate::reply::{NamedCall, Reply, argument_deltas};
use crate::script::{Stop, Usage};
use crate::stream::Frame;

pub(super) fn whole(reply: &Reply) -> Value {
    let mut message = json!({"role": "assistant", "content": content(reply), "refusal": null});
    if !reply.calls.is_empty() {
        let calls = reply.calls.iter().map(|call| {
            json!({"id": call_id(call), "type": "function",
                   "function": {"name": call.name, "arguments": call.arguments()}})
        });
        message["tool_calls"] = calls.collect();
    }
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish(reply)});
    let mut body = envelope(reply, "chat.completion", &json!([choice]));
    body["usage"] = usage(reply.usage);
    body
}

pub(super) fn frames(reply: &Reply, with_usage: bool) -> Vec<Frame> {
    let chunk = |delta: &Value, finish_reason: &Value| {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
        let mut body = envelope(reply, "chat.completion.chunk", &json!([choice]));
        if with_usage {
            body["usage"] = Value::Null;
        }
        Frame::data(&body)
    };
    let delta = |delta: &Value| chunk(delta, &Value::Null);

    let mut frames = vec![delta(&json!({"role": "assistant", "content": opening(reply), "refusal": null}))];
    frames.extend(reply.text_deltas().map(|text| delta(&json!({"content": text})).paced()));
    for (index, call) in reply.calls.iter().enumerate() {
        let function = json!({"name": call.name, "arguments": ""});
        let start = json!({"index": index, "id": call_id(call), "type": "function", "function": function});
        frames.push(delta(&json!({"tool_calls": [start]})));
        for part in argument_deltas(&call.arguments()) {
            let part = json!({"index": index, "function": {"arguments": part}});
            frames.push(delta(&json!({"tool_calls": [part]})).paced());
        }
    }
    frames.push(chunk(&json!({}), &json!(finish(reply))));
    if with_usage {
        let mut body = envelope(reply, "chat.completion.chunk", &json!([]));
        body["usage"] = usage(reply.usage);
        frames.push(Frame::data(&body));
    }
    frames.push(Frame::done());
    frames
}

fn envelope(reply: &Reply, object: &str, choices: &Value) -> Value {
    json!({
        "id": format!("chatcmpl-{}", reply.label),
        "object": object,
        "created": CREATED,
        "model": reply.model,
        "choices": choices,
    })
}

/// The content of a whole message: null when there are only calls.
fn content(reply: &Reply) -> Value {
    if reply.text.is_empty() { Value::Null } else { json!(reply.text) }
}

/// The content of a stream's first chunk: an empty text when one follows.
fn opening(reply: &Reply) -> Value {
    if reply.text.is_empty() { Value::Null } else { json!("") }
}

fn usage(usage: Usage) -> Value {
    let prompt = usage.input + usage.cache_read + usage.cache_write;
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    })
}

fn finish(reply: &Reply) -> &'static str {
    match reply.stop {
        Some(Stop::Length) => "length",
        None if reply.calls.is_empty() => "stop",
        None => "tool_calls",
    }
}

fn call_id(call: &NamedCall) -> String {
    format!("call_{}", call.label)
}
