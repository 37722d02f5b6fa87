//! What a recorder writes, and what it never does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;

use axum::{Router, body::Bytes, http::HeaderMap, response::IntoResponse as _, routing::post};
use recorded_model::script::Script;
use serde_json::{Value, json};
use support::{Model, Recorder, events, soon};
use tokio::net::TcpListener;

const KEY: &str = "sk-ant-api03-0123456789abcdefNEVER";
const ORGANISATION: &str = "b7c1d2e3-ORGANISATION-f4a5";

/// An API that shows all that it was sent, wherever an answer has room for it.
async fn telltale() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = async |headers: HeaderMap, body: Bytes| {
        let seen = format!("{headers:?} {}", String::from_utf8_lossy(&body));
        let input =
            json!({"cmd": seen, "nested": [{"deep": KEY, "nothing": null}], KEY: ORGANISATION, "null": null});
        let content = json!([
            {"type": "text", "text": format!("I was sent {seen}, and belong to {ORGANISATION}")},
            {"type": "tool_use", "id": "t", "name": format!("tool-{KEY}"), "input": input},
        ]);
        let usage = json!({"input_tokens": 1, "output_tokens": 2});
        let body =
            json!({"id": KEY, "model": KEY, "content": content, "stop_reason": "tool_use", "usage": usage});
        ([("anthropic-organization-id", ORGANISATION), ("set-cookie", KEY)], axum::Json(body)).into_response()
    };
    let router = Router::new().route("/v1/messages", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn no_key_and_no_account_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recorded.toml");
    let recorder = Recorder::start(&file, &telltale().await).await;
    let mut body = json!({"model": KEY, "messages": [{"role": "user", "content": format!("{KEY}\n{KEY}")}]});
    body["metadata"] = json!({"user_id": KEY, KEY: [KEY]});
    let request = reqwest::Client::new().post(format!("{}/v1/messages", recorder.url)).json(&body);
    let named =
        ["x-api-key", "authorization", "api-key", "cookie", "x-goog-api-key", "proxy-authorization", "x-any"];
    let request = named.iter().fold(request, |request, name| request.header(*name, format!("Bearer {KEY}")));
    let answer: Value =
        soon(request.header("openai-organization", "short1").send()).await.unwrap().json().await.unwrap();
    assert!(answer.to_string().contains(KEY), "it passes all on");
    let text = fs::read_to_string(&file).unwrap();
    for secret in [KEY, "0123456789", ORGANISATION, "short1"] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
    let script = Script::from_toml(&text).unwrap();
    let turn = script.turn(0).unwrap();
    assert!(turn.text.starts_with("I was sent ") && turn.tools.len() == 1, "{turn:?}");
}

#[tokio::test]
async fn a_conversation_is_written_in_its_order_and_side_requests_are_not() {
    let turns = "[[turn]]\ntext='one'\nusage={input=5,output=6}\n[[turn.tool]]\nname='t'\ninput={a=1}\n\
                 [[turn]]\ntext='two'\nstop='length'";
    let model = Model::start(turns).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recorded.toml");
    let recorder = Recorder::start(&file, &model.url).await;
    let post = async |messages: Value, tools: Value| {
        let body = json!({"model": "m", "stream": true, "messages": messages, "tools": tools});
        let request =
            reqwest::Client::new().post(format!("{}/v1/messages?beta=true", recorder.url)).json(&body);
        soon(soon(request.send()).await.unwrap().text()).await.unwrap()
    };
    let (user, tool) = (json!({"role": "user", "content": "x"}), json!([{"name": "t"}]));
    let assistant = json!({"role": "assistant", "content": "one"});
    let body = json!({"model": "m", "stream": true, "messages": [user], "tools": tool});
    let direct = model.events("/v1/messages", &body).await;
    let passed = post(json!([user]), tool.clone()).await;
    assert_eq!(events(&passed), direct, "the stream passes as it is");
    post(json!([user, assistant, user]), tool).await;
    post(json!([user]), json!([])).await;
    let text = fs::read_to_string(&file).unwrap();
    let (recorded, original) = (Script::from_toml(&text).unwrap(), Script::from_toml(turns).unwrap());
    assert_eq!(format!("{:?}", recorded.turn(0)), format!("{:?}", original.turn(0)));
    assert_eq!(recorded.turn(1).unwrap().text, "two");
    assert_eq!(recorded.turn(1).unwrap().stop, original.turn(1).unwrap().stop);
    assert!(recorded.turn(2).is_none(), "{text}");
}
