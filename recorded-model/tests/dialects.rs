//! Each provider's routes, streamed and not: the stream adds up to what the whole answer says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use serde_json::{Value, json};
use support::Model;

const TURNS: &str = r#"
    [[turn]]
    text = "I will write\ntwo files: a, ü."
    usage = { input = 1200, output = 80, cache_read = 300, cache_write = 40 }
    [[turn.tool]]
    name = "write"
    input = { filePath = "/work/a", content = "one \"quoted\" line, long enough to need more than one delta\n" }
    [[turn.tool]]
    name = "bash"
    input = { command = "ls" }
    [[turn]]
    text = "Done."
    usage = { input = 7, output = 1 }
    [[turn]]
    text = "One turn too many."
"#;

fn arguments() -> Value {
    json!({"filePath": "/work/a", "content": "one \"quoted\" line, long enough to need more than one delta\n"})
}

fn parsed(arguments: &Value) -> Value {
    serde_json::from_str(arguments.as_str().unwrap()).unwrap()
}

/// The concatenation of a text field over the events that have it.
fn joined<'a>(parts: impl Iterator<Item = &'a Value>) -> Value {
    Value::String(parts.filter_map(Value::as_str).collect())
}

#[tokio::test]
async fn messages() {
    let model = Model::start(TURNS).await;
    let mut request = json!({
        "model": "claude-x", "max_tokens": 100, "tools": [{"name": "write"}, {"name": "bash"}],
        "messages": [{"role": "user", "content": "go"}],
    });
    let whole = model.json("/v1/messages?beta=true", &request).await;
    assert_eq!(whole["model"], "claude-x");
    assert_eq!(whole["stop_reason"], "tool_use");
    assert_eq!(whole["content"][0], json!({"type": "text", "text": "I will write\ntwo files: a, ü."}));
    assert_eq!(whole["content"][1]["input"], arguments());
    assert_eq!(whole["content"][2]["name"], "bash");
    assert_ne!(whole["content"][1]["id"], whole["content"][2]["id"]);
    let usage = json!({"input_tokens": 1200, "output_tokens": 80, "cache_read_input_tokens": 300,
        "cache_creation_input_tokens": 40});
    assert_eq!(whole["usage"], usage);

    request["stream"] = json!(true);
    let events = model.events("/anthropic/v1/messages", &request).await;
    assert!(events.iter().all(|(name, data)| data["type"] == name.as_str()));
    assert_eq!(events[0].1["message"]["id"], whole["id"]);
    let block = |index: u64, field: &str| {
        let deltas =
            events.iter().filter(|(name, data)| name == "content_block_delta" && data["index"] == index);
        joined(deltas.map(|(_, data)| &data["delta"][field]))
    };
    assert_eq!(block(0, "text"), whole["content"][0]["text"]);
    assert_eq!(parsed(&block(1, "partial_json")), arguments());
    assert_eq!(parsed(&block(2, "partial_json")), json!({"command": "ls"}));
    let (last_but_one, last) = (&events[events.len() - 2].1, &events[events.len() - 1].1);
    assert_eq!(last_but_one["delta"]["stop_reason"], "tool_use");
    assert_eq!(last_but_one["usage"], usage);
    assert_eq!(last["type"], "message_stop");

    request["messages"] = json!([
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": whole["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": "ok"}]},
    ]);
    request["stream"] = json!(false);
    let last = model.json("/v1/messages", &request).await;
    assert_eq!((&last["content"][0]["text"], &last["stop_reason"]), (&json!("Done."), &json!("end_turn")));
    let count = model.json("/v1/messages/count_tokens", &request).await;
    assert_eq!(count, json!({"input_tokens": 7}));
}

#[tokio::test]
async fn chat_completions() {
    let model = Model::start(TURNS).await;
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let mut request = json!({
        "model": "gpt-x", "tools": [tool("write"), tool("bash")],
        "messages": [{"role": "system", "content": "be good"}, {"role": "user", "content": "go"}],
    });
    let whole = model.json("/v1/chat/completions", &request).await;
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], "I will write\ntwo files: a, ü.");
    assert_eq!(parsed(&choice["message"]["tool_calls"][0]["function"]["arguments"]), arguments());
    assert_eq!(whole["usage"]["prompt_tokens"], 1540);
    assert_eq!(whole["usage"]["prompt_tokens_details"]["cached_tokens"], 300);
    assert_eq!(whole["usage"]["total_tokens"], 1620);

    request["stream"] = json!(true);
    let without_usage = model.events("/v1/chat/completions", &request).await;
    assert!(without_usage.iter().all(|(_, data)| data.get("usage").is_none()));
    request["stream_options"] = json!({"include_usage": true});
    let events = model.events("/openai/v1/chat/completions", &request).await;
    assert_eq!(events.last().unwrap(), &(String::new(), json!("[DONE]")));
    assert_eq!(events[events.len() - 2].1["usage"], whole["usage"]);
    assert_eq!(events[events.len() - 3].1["choices"][0]["finish_reason"], "tool_calls");
    let deltas: Vec<&Value> = events.iter().map(|(_, data)| &data["choices"][0]["delta"]).collect();
    assert_eq!(joined(deltas.iter().map(|delta| &delta["content"])), choice["message"]["content"]);
    let calls: Vec<&Value> = deltas.iter().filter_map(|delta| delta["tool_calls"].get(0)).collect();
    for (index, expected) in [arguments(), json!({"command": "ls"})].into_iter().enumerate() {
        let of_this_call = calls.iter().filter(|call| call["index"] == index);
        assert_eq!(parsed(&joined(of_this_call.map(|call| &call["function"]["arguments"]))), expected);
    }

    request["messages"] = json!([
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": null, "tool_calls": choice["message"]["tool_calls"]},
        {"role": "tool", "tool_call_id": "x", "content": "ok"},
        {"role": "tool", "tool_call_id": "y", "content": "ok"},
    ]);
    request["stream"] = json!(false);
    let last = model.json("/v1/chat/completions", &request).await;
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["choices"][0]["message"]["content"], "Done.");
}

#[tokio::test]
async fn responses() {
    let model = Model::start(TURNS).await;
    let tool = |name: &str| json!({"type": "function", "name": name});
    let mut request = json!({"model": "gpt-x", "tools": [tool("write"), tool("bash")], "input": "go"});
    let whole = model.json("/v1/responses", &request).await;
    assert_eq!(whole["status"], "completed");
    assert_eq!(whole["output"][0]["content"][0]["text"], "I will write\ntwo files: a, ü.");
    assert_eq!(parsed(&whole["output"][1]["arguments"]), arguments());
    assert_eq!(whole["usage"]["input_tokens"], 1540);
    assert_eq!(whole["usage"]["input_tokens_details"]["cached_tokens"], 300);

    request["stream"] = json!(true);
    let events = model.events("/openai/v1/responses", &request).await;
    assert!(events.iter().all(|(name, data)| data["type"] == name.as_str()));
    assert!(events.iter().enumerate().all(|(index, (_, data))| data["sequence_number"] == index));
    assert_eq!(events.last().unwrap().0, "response.completed");
    assert_eq!(events.last().unwrap().1["response"], whole);
    let of = |kind: &'static str| events.iter().filter(move |(name, _)| name == kind).map(|(_, data)| data);
    let text = joined(of("response.output_text.delta").map(|data| &data["delta"]));
    assert_eq!(text, whole["output"][0]["content"][0]["text"]);
    let done: Vec<&Value> = of("response.output_item.done").map(|data| &data["item"]).collect();
    assert_eq!(json!(done), whole["output"]);
    let first_call = of("response.function_call_arguments.delta").filter(|data| data["output_index"] == 1);
    assert_eq!(parsed(&joined(first_call.map(|data| &data["delta"]))), arguments());

    // One turn: what it said, thought and called, with the results of both calls after it.
    let mut input = whole["output"].as_array().unwrap().clone();
    input.insert(1, json!({"type": "reasoning", "summary": []}));
    input.insert(0, json!({"role": "user", "content": "go"}));
    input.push(json!({"type": "function_call_output", "call_id": "x", "output": "ok"}));
    input.push(json!({"type": "function_call_output", "call_id": "y", "output": "ok"}));
    request["input"] = json!(input);
    request["stream"] = json!(false);
    let last = model.json("/v1/responses", &request).await;
    assert_eq!(last["output"][0]["content"][0]["text"], "Done.");
}

#[tokio::test]
async fn a_retry_gets_the_same_answer() {
    let model = Model::start(TURNS).await;
    let request = json!({"model": "m", "tools": [{"name": "write"}, {"name": "bash"}], "stream": true,
        "messages": [{"role": "user", "content": "go"}]});
    let first = model.events("/v1/messages", &request).await;
    assert_eq!(model.events("/v1/messages", &request).await, first);
}

#[tokio::test]
async fn other_routes() {
    let model = Model::start(TURNS).await;
    let client = reqwest::Client::new();
    let head = client.head(&model.url).send().await.unwrap();
    assert_eq!(head.status(), 200);
    let models: Value =
        client.get(format!("{}/openai/v1/models", model.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(models["data"][0]["id"], "recorded");
    for (route, body, status) in [
        ("/v1/complete", json!({}), 404),
        ("/v1/models", json!({}), 404),
        ("/v1/messages", json!({"messages": []}), 400),
        ("/v1/responses", json!({"model": "m"}), 400),
    ] {
        assert_eq!(model.post(route, &body).await.status(), status, "{route} {body}");
    }
}
