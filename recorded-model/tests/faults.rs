//! Turns that go wrong, and the record of what arrived.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use recorded_model::log::RequestLog;
use serde_json::{Value, json};
use support::{Model, events, lines, soon};

const ROUTES: [&str; 3] = ["/v1/messages", "/v1/chat/completions", "/v1/responses"];

/// A request without tools that every route understands.
fn request(stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "go"}]);
    json!({"model": "m", "stream": stream, "messages": messages, "input": messages})
}

/// Reads until the body ends or breaks, and tells which.
async fn read(mut response: reqwest::Response) -> (String, bool) {
    let mut text = Vec::new();
    loop {
        match soon(response.chunk()).await {
            Ok(Some(chunk)) => text.extend(chunk),
            Ok(None) => return (String::from_utf8(text).unwrap(), true),
            Err(_) => return (String::from_utf8(text).unwrap(), false),
        }
    }
}

#[tokio::test]
async fn a_refusal_comes_in_the_providers_shape() {
    let model = Model::start("[[turn]]\nstatus = 402\nerror = 'the budget is spent'\nretry_after = 3").await;
    for route in ROUTES {
        let response = model.post(route, &request(true)).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (402, &"3".parse().unwrap())
        );
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["message"], "the budget is spent");
        assert_eq!(body["error"]["type"], "billing_error");
        assert_eq!(body["type"] == "error", route == "/v1/messages");
    }
}

#[tokio::test]
async fn a_cut_comes_after_the_first_half() {
    let model = Model::start("[[turn]]\ntext = 'one two three four'\ncut = true").await;
    for route in ROUTES {
        let (text, ended) = read(model.post(route, &request(true)).await).await;
        assert!(!ended, "{route} ended properly");
        assert!(text.contains("two ") && !text.contains("three"), "{route}: {text}");
        let (text, ended) = read(model.post(route, &request(false)).await).await;
        assert!(
            !ended && !text.is_empty() && serde_json::from_str::<Value>(&text).is_err(),
            "{route}: {text}"
        );
    }
}

#[tokio::test]
async fn a_stream_can_report_an_error() {
    let model = Model::start("[[turn]]\ntext = 'one two'\nerror = 'it broke'").await;
    let expected =
        [("error", "/error/message"), ("", "/error/message"), ("response.failed", "/response/error/message")];
    for (route, (name, message)) in ROUTES.into_iter().zip(expected) {
        let (text, ended) = read(model.post(route, &request(true)).await).await;
        assert!(ended && text.contains("one "), "{route}: {text}");
        let (told, data) = events(&text).pop().unwrap();
        assert_eq!((told.as_str(), data.pointer(message)), (name, Some(&json!("it broke"))), "{route}");
        assert_eq!(model.post(route, &request(false)).await.status(), 500);
    }
}

#[tokio::test]
async fn a_hanging_answer_stays_open_until_the_server_goes() {
    let model = Model::start("[[turn]]\ntext = 'one two three four'\nhang = true").await;
    let mut waiting = Vec::new();
    for (stream, begun) in [(true, "two "), (false, "\"id\"")] {
        let mut response = model.post("/v1/messages", &request(stream)).await;
        let mut text = String::new();
        while !text.contains(begun) {
            text.push_str(&String::from_utf8_lossy(&soon(response.chunk()).await.unwrap().unwrap()));
        }
        assert!(!text.contains("three") || !stream, "{text}");
        waiting.push(tokio::spawn(read(response)));
    }
    // Whatever the server would do to them at once, it does before it answers another request.
    model.post("/v1/messages/count_tokens", &request(false)).await;
    assert!(waiting.iter().all(|reading| !reading.is_finished()));
    model.shutdown.cancel();
    for reading in waiting {
        let (rest, ended) = soon(reading).await.unwrap();
        assert!(!ended && rest.is_empty(), "{rest}");
    }
    soon(model.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_paced_answer_waits_before_each_delta() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let turns = "[[turn]]\ntext = 'one two'\ndelay_ms = 3600000";
    let model = Model::start_with(turns, RequestLog::open(&log, false).unwrap()).await;
    let streamed = model.post("/v1/messages", &request(true)).await;
    let (url, body) = (format!("{}/v1/messages", model.url), request(false));
    let whole = tokio::spawn(reqwest::Client::new().post(url).json(&body).send());
    soon(async {
        while lines(&log).len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    // Were it answered at once, it would be by the time that so many others are.
    for _ in 0..100 {
        model.post("/v1/messages/count_tokens", &request(false)).await;
    }
    model.shutdown.cancel();
    let (text, ended) = read(streamed).await;
    assert!(!ended && text.contains("content_block_start") && !text.contains("one "), "{text}");
    assert_eq!(soon(whole).await.unwrap().unwrap().status(), 503);
}

#[tokio::test]
async fn what_arrived_is_written_down_without_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let (short, long) = (folder.path().join("short"), folder.path().join("long"));
    for (path, bodies) in [(&short, false), (&long, true)] {
        let log = RequestLog::open(path, bodies).unwrap();
        let model = Model::start_with("[[turn]]\ntext = 'one'", log).await;
        model.post("/v1/messages?beta=true", &request(true)).await;
        model.post("/v1/nothing", &json!({})).await;
        assert!(!std::fs::read_to_string(path).unwrap().contains("secret"));
    }
    let written = lines(&short);
    assert_eq!(written.len(), 2);
    assert_eq!(written[0]["route"], "/v1/messages");
    assert_eq!(written[0]["query"], "beta=true");
    assert_eq!(written[0]["model"], "m");
    assert_eq!(written[0]["stream"], true);
    assert_eq!(written[0]["headers"]["authorization"], "(credential)");
    assert_eq!(written[0]["body_bytes"], request(true).to_string().len());
    assert_eq!(written[0].get("body"), None);
    assert_eq!(written[1]["route"], "/v1/nothing");
    assert_eq!(lines(&long)[0]["body"], request(true));
}
