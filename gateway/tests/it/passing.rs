//! What passes through: bytes, headers, and what is charged for them.

use serde_json::{Value, json};

use crate::house::{House, MODEL, Piece, RawModel, RecordedModel, question, soon};

const TURNS: &str = r#"
    [[turn]]
    text = "I look at it: \"usage\", é, and a\nnew line."
    usage = { input = 1000, output = 100, cache_read = 10000, cache_write = 2000 }
"#;
/// By hand, in USD for a million: 1 in, 5 out, 0.1 cache read, 1.25 cache write.
const HAIKU: &str = "0.005";
/// 1.25 in (the recorded model counts what was written to the cache as input), 10 out, 0.125 cache read.
const GPT: &str = "0.006";

fn cases() -> Vec<(&'static str, Value, &'static str)> {
    let ask = |stream| question(500, stream);
    let chat = |stream: bool| {
        json!({"model": "gpt-5.1", "messages": [], "max_completion_tokens": 500, "stream": stream,
               "stream_options": stream.then(|| json!({"include_usage": true}))})
    };
    let responses =
        |stream| json!({"model": "gpt-5.1-codex", "input": [], "max_output_tokens": 500, "stream": stream});
    vec![
        ("/v1/messages?beta=true", ask(true), HAIKU),
        ("/anthropic/v1/messages", ask(false), HAIKU),
        ("/v1/chat/completions", chat(true), GPT),
        ("/openai/v1/chat/completions", chat(false), GPT),
        ("/v1/responses", responses(true), GPT),
        ("/openai/v1/responses", responses(false), GPT),
    ]
}

#[tokio::test]
async fn every_answer_passes_byte_for_byte_and_is_charged_to_the_nano_dollar() {
    let model = RecordedModel::start(TURNS).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let direct = reqwest::Client::new();
    for (number, (path, body, price)) in cases().into_iter().enumerate() {
        let task = format!("t{number}");
        let key = gateway.mint(&task, "5.00").await;
        let wanted = direct.post(format!("{}{path}", model.url)).json(&body).send().await.unwrap();
        let got = gateway.post(path, &key, &body).send().await.unwrap();
        assert_eq!(got.status(), 200, "{path}");
        assert_eq!(got.headers()["content-type"], wanted.headers()["content-type"]);
        assert_eq!(got.bytes().await.unwrap(), wanted.bytes().await.unwrap(), "{path}");
        assert_eq!(gateway.spent(&task).await, price, "{path}");
    }
    let usage = gateway.admin.usage(&"t0".parse().unwrap()).await.unwrap();
    assert_eq!((usage.requests, usage.input_tokens, usage.output_tokens), (1, 13_000, 100));
    assert_eq!(usage.models, [MODEL]);
}

#[tokio::test]
async fn a_chat_client_that_did_not_ask_for_usage_gets_none_and_pays_all_the_same() {
    let model = RecordedModel::start(TURNS).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "5.00").await;
    let body = json!({"model": "gpt-5.1", "messages": [], "stream": true});
    let got = gateway.post("/v1/chat/completions", &key, &body).send().await.unwrap().text().await.unwrap();
    assert!(!got.contains("prompt_tokens"), "{got}");
    assert!(got.ends_with("data: [DONE]\n\n"), "{got}");
    assert_eq!(gateway.spent("t").await, GPT);
}

#[tokio::test]
async fn a_stream_comes_as_it_is_made_not_at_its_end() {
    let permit = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let first = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    let pieces =
        vec![Piece::stream(), Piece::say(first), Piece::Wait(permit.clone()), Piece::say("data: {}\n\n")];
    let model = RawModel::start(pieces).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "5.00").await;
    let mut answer = gateway.ask(&key, 500, true).await;
    assert_eq!(soon(answer.chunk()).await.unwrap().unwrap(), first);
    permit.add_permits(1);
    assert_eq!(soon(answer.chunk()).await.unwrap().unwrap(), "data: {}\n\n");
    assert_eq!(soon(answer.chunk()).await.unwrap(), None);
}

#[tokio::test]
async fn of_the_headers_only_what_the_api_knows_goes_up() {
    let mut model = RawModel::start(vec![Piece::answer(
        "200 OK",
        "request-id: r1\r\nset-cookie: a=b\r\nanthropic-organization-id: o\r\n",
        "{}",
    )])
    .await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "5.00").await;
    let sent = gateway
        .post("/v1/messages?beta=true", &key, &question(500, false))
        .header("anthropic-version", "2023-06-01")
        .header("anthropic-beta", "b1, code-execution-2025-08-25,b2,Files-API-2025-04-14")
        .header("openai-organization", "other")
        .header("cookie", "c=d")
        .header("x-forwarded-for", "1.2.3.4");
    let answer = soon(sent.send()).await.unwrap();
    assert_eq!(answer.headers()["request-id"], "r1");
    assert!(!answer.headers().contains_key("set-cookie"));
    assert!(!answer.headers().contains_key("anthropic-organization-id"));
    let (head, body) = soon(model.asked.recv()).await.unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/messages?beta=true http/1.1\r\n"), "{head}");
    for there in [
        "anthropic-version: 2023-06-01",
        "anthropic-beta: b1,b2",
        "x-api-key: sk-real",
        "accept-encoding: identity",
    ] {
        assert!(head.contains(there), "{there} in {head}");
    }
    for gone in ["cookie", "x-forwarded", "openai-", "sk-cw-"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    assert_eq!(body, serde_json::to_vec(&question(500, false)).unwrap());
    let removed = gateway.admin.usage(&"t".parse().unwrap()).await.unwrap().removed;
    assert_eq!(
        removed.into_iter().collect::<Vec<_>>(),
        [("Files-API-2025-04-14".to_owned(), 1), ("code-execution-2025-08-25".to_owned(), 1)]
    );
}

#[tokio::test]
async fn server_side_tools_do_not_reach_the_model() {
    let mut model = RawModel::start(vec![Piece::answer("200 OK", "", "{}")]).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "5.00").await;
    let body = json!({"model": MODEL, "max_tokens": 500, "messages": [],
        "tools": [{"type": "web_search_20250305", "name": "web_search"}],
        "tool_choice": {"type": "tool", "name": "web_search"}});
    assert_eq!(gateway.post("/v1/messages", &key, &body).send().await.unwrap().status(), 200);
    let (_, body) = soon(model.asked.recv()).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body, json!({"model": MODEL, "max_tokens": 500, "messages": []}));
    let removed = gateway.admin.usage(&"t".parse().unwrap()).await.unwrap().removed;
    assert_eq!(removed.into_iter().collect::<Vec<_>>(), [("web_search_20250305".to_owned(), 1)]);
    let body =
        json!({"model": MODEL, "max_tokens": 500, "messages": [], "mcp_servers": [{"url": "http://x"}]});
    let refused = gateway.post("/v1/messages", &key, &body).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("mcp_servers"));
}
