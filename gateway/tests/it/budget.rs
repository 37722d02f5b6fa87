//! Budgets hold, however a request ends.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::house::{House, MODEL, Piece, RawModel, RecordedModel, question, soon};

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1000,\"output_tokens\":1}}}\n\n";
const DELTA: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n";
const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":100}}\n\n";
/// 1,000 tokens in at 1 USD a million, 100 out at 5.
const WHOLE: &str = "0.0015";
/// The same, but for all the 500 tokens that the request allowed.
const BOUND: &str = "0.0035";

#[tokio::test]
async fn a_spent_budget_is_402_in_each_providers_words() {
    let turns = "[[turn]]\ntext = 'x'\nusage = { input = 10000, output = 1000 }";
    let model = RecordedModel::start(turns).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "0.016").await;
    assert_eq!(gateway.ask(&key, 1_000, false).await.status(), 200);
    let answer = gateway.ask(&key, 1_000, false).await;
    assert_eq!(answer.status(), 402);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["type"], "billing_error");
    assert!(body["error"]["message"].as_str().unwrap().starts_with("budget_spent: the rest"), "{body}");
    let answer = gateway.post("/v1/responses", &key, &json!({"model": "gpt-5.1"})).send().await.unwrap();
    assert_eq!(answer.status(), 402);
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "budget_spent");
    let other = gateway.mint("u", "1.00").await;
    assert_eq!(gateway.ask(&other, 1_000, false).await.status(), 200);
}

#[tokio::test]
async fn output_is_lowered_to_what_the_budget_affords() {
    let mut model = RawModel::start(vec![Piece::answer("500 No", "", "{}")]).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "0.10").await;
    for (path, body, field) in [
        ("/v1/messages", question(64_000, true), "max_tokens"),
        ("/v1/responses", json!({"model": "gpt-5.1", "input": []}), "max_output_tokens"),
        ("/v1/chat/completions", json!({"model": "gpt-5.1", "messages": []}), "max_completion_tokens"),
    ] {
        assert_eq!(gateway.post(path, &key, &body).send().await.unwrap().status(), 500);
        let (_, sent) = soon(model.asked.recv()).await.unwrap();
        let lowered = serde_json::from_slice::<Value>(&sent).unwrap()[field].as_u64().unwrap();
        assert!((5_000..20_000).contains(&lowered), "{path}: {lowered}");
    }
    assert_eq!(gateway.settled(&key).await, "0.00");
}

#[tokio::test]
async fn a_conversation_that_goes_on_is_not_bounded_by_its_bytes_again() {
    let body = r#"{"usage":{"input_tokens":100000,"output_tokens":1}}"#;
    let model = RawModel::start(vec![Piece::answer("200 OK", "", body)]).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    // 400,000 tokens that may be written to a cache would be 0.50; 100,000 were 0.10.
    let key = gateway.mint("t", "0.55").await;
    let other = gateway.mint("u", "0.45").await;
    let mut talk = question(9, false);
    talk["messages"][0]["content"] = json!("a".repeat(400_000));
    let ask = async |key: &str, talk: &Value| {
        soon(gateway.post("/v1/messages", key, talk).send()).await.unwrap().status().as_u16()
    };
    assert_eq!(ask(&key, &talk).await, 200);
    talk["messages"].as_array_mut().unwrap().push(json!({"role": "assistant", "content": "b"}));
    assert_eq!(ask(&key, &talk).await, 200);
    // One task's count says nothing of another's, and a conversation that is not the same is bounded anew.
    assert_eq!(ask(&other, &talk).await, 402);
    talk["messages"][0]["content"] = json!("c".repeat(400_000));
    assert_eq!(ask(&key, &talk).await, 402);
    assert_eq!(gateway.spent("t").await, "0.20001");
}

#[tokio::test]
async fn requests_at_once_wait_for_each_other_and_never_overspend() {
    // Every request costs all that it may, so one cent affords few of them.
    let permit = Arc::new(Semaphore::new(0));
    let body = r#"{"usage":{"input_tokens":1000,"output_tokens":256}}"#;
    let model = RawModel::start(vec![Piece::Wait(permit.clone()), Piece::answer("200 OK", "", body)]).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "0.01").await;
    let asking: Vec<_> = (0..20)
        .map(|_| tokio::spawn(gateway.post("/v1/messages", &key, &question(256, false)).send()))
        .collect();
    permit.add_permits(20);
    let mut statuses = Vec::new();
    for answer in asking {
        statuses.push(soon(answer).await.unwrap().unwrap().status().as_u16());
    }
    let paid = statuses.iter().filter(|&&status| status == 200).count();
    assert_eq!(statuses.iter().filter(|&&status| status == 402).count(), 20 - paid);
    assert_eq!(paid, *model.count.lock().unwrap());
    // 0.00228 each; the fifth would pass 0.01.
    assert_eq!((paid, gateway.spent("t").await.as_str()), (4, "0.00912"));
}

#[tokio::test]
async fn a_stream_that_passes_its_budget_is_cut_and_its_key_stays_refused() {
    let pieces = vec![Piece::stream(), Piece::say(START), Piece::say(DELTA.repeat(2_000)), Piece::Hang];
    let model = RawModel::start(pieces).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "0.006").await;
    let text = soon(gateway.ask(&key, 64_000, true).await.text()).await.unwrap();
    let (answer, error) = text.split_once("event: error\n").unwrap();
    assert!(answer.starts_with(START) && answer.ends_with(DELTA));
    assert!(error.contains("billing_error") && error.contains("budget_spent"), "{error}");
    assert_eq!(gateway.ask(&key, 1, false).await.status(), 402);
}

#[tokio::test]
async fn an_answer_whose_client_has_gone_is_read_on_and_charged_as_it_was() {
    let permit = Arc::new(Semaphore::new(0));
    let pieces = vec![Piece::stream(), Piece::say(START), Piece::Wait(permit.clone()), Piece::say(END)];
    let model = RawModel::start(pieces).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    let mut answer = gateway.ask(&key, 500, true).await;
    assert_eq!(soon(answer.chunk()).await.unwrap().unwrap(), START);
    drop(answer);
    permit.add_permits(1);
    assert_eq!(gateway.settled(&key).await, WHOLE);
}

#[tokio::test]
async fn an_answer_is_charged_before_its_client_can_know_that_it_is_complete() {
    let model = RawModel::start(vec![Piece::stream(), Piece::say([START, END].concat()), Piece::Hang]).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    let mut answer = gateway.ask(&key, 500, true).await;
    assert_eq!(soon(answer.chunk()).await.unwrap().unwrap(), [START, END].concat());
    assert_eq!(gateway.spent("t").await, WHOLE);
}

#[tokio::test]
async fn a_client_that_goes_before_the_answer_pays_for_it() {
    let permit = Arc::new(Semaphore::new(0));
    let body = r#"{"usage":{"input_tokens":1000,"output_tokens":100}}"#;
    let pieces = vec![Piece::Wait(permit.clone()), Piece::answer("200 OK", "", body)];
    let mut model = RawModel::start(pieces).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    let asking = tokio::spawn(gateway.post("/v1/messages", &key, &question(500, false)).send());
    soon(model.asked.recv()).await.unwrap();
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    for _ in 0..20 {
        // Other requests, so that the gateway has seen that one's client go.
        gateway.spent("t").await;
    }
    permit.add_permits(1);
    assert_eq!(gateway.settled(&key).await, WHOLE);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_charged_by_its_bound_and_seen_as_broken() {
    let permit = Arc::new(Semaphore::new(0));
    let pieces = vec![Piece::stream_that_will_be_cut(), Piece::say(START), Piece::Wait(permit.clone())];
    let model = RawModel::start(pieces).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    let mut answer = gateway.ask(&key, 500, true).await;
    assert_eq!(soon(answer.chunk()).await.unwrap().unwrap(), START);
    permit.add_permits(1);
    assert!(soon(answer.chunk()).await.is_err());
    assert_eq!(gateway.settled(&key).await, BOUND);
}

#[tokio::test]
async fn a_refusal_of_the_upstream_costs_nothing() {
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"later"}}"#;
    let model =
        RawModel::start(vec![Piece::answer("529 Overloaded", "retry-after: 7\r\n", overloaded)]).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    let answer = gateway.ask(&key, 500, true).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (529, &"7".parse().unwrap()));
    assert_eq!(answer.text().await.unwrap(), overloaded);
    assert_eq!(gateway.settled(&key).await, "0.00");
    assert_eq!(gateway.admin.usage(&"t".parse().unwrap()).await.unwrap().requests, 0);
}

#[tokio::test]
async fn a_killed_gateway_charges_what_it_held_and_keeps_what_it_knew() {
    let permit = Arc::new(Semaphore::new(0));
    let pieces = vec![Piece::stream(), Piece::say(START), Piece::Wait(permit.clone()), Piece::say(END)];
    let model = RawModel::start(pieces).await;
    let house = House::before(&model.url);
    let mut gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    let revoked = gateway.mint("u", "1.00").await;
    gateway.admin.revoke(&"u".parse().unwrap(), 1).await.unwrap();
    permit.add_permits(1);
    soon(gateway.ask(&key, 500, true).await.bytes()).await.unwrap();
    assert_eq!(gateway.spent("t").await, WHOLE);
    let mut under_way = gateway.ask(&key, 500, true).await;
    soon(under_way.chunk()).await.unwrap();
    let balance: Value = gateway.get("/v1/key", &key).send().await.unwrap().json().await.unwrap();
    let held: protocol::Usd = balance["held_usd"].as_str().unwrap().parse().unwrap();
    assert!(held > "0.0025".parse().unwrap(), "{held}");

    gateway.process.kill().await.unwrap();
    drop(under_way);
    let gateway = house.open().await;
    let wanted = held.saturating_add(WHOLE.parse().unwrap());
    assert_eq!(gateway.spent("t").await, wanted.to_string());
    assert_eq!(gateway.mint("t", "1.00").await, key);
    assert_eq!(gateway.ask(&revoked, 9, false).await.status(), 403);
    let usage = gateway.admin.usage(&"t".parse().unwrap()).await.unwrap();
    assert_eq!((usage.requests, usage.models), (1, vec![MODEL.to_owned()]));
}

#[tokio::test]
async fn an_answer_longer_than_was_asked_for_waits_until_the_disk_knows_what_it_costs() {
    let permit = Arc::new(Semaphore::new(0));
    let long = [DELTA.repeat(6_000).as_str(), END].concat();
    let pieces =
        vec![Piece::stream(), Piece::say(START), Piece::Wait(permit.clone()), Piece::say(long.clone())];
    let model = RawModel::start(pieces).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "0.10").await;
    let mut answer = gateway.ask(&key, 500, true).await;
    assert_eq!(soon(answer.chunk()).await.unwrap().unwrap(), START);

    // The ledger's writer waits for us: nothing comes to the disk.
    let database = house.folder.path().join(".local/share/code-workers/gateway.db");
    let ours = rusqlite::Connection::open(database).unwrap();
    ours.execute_batch("BEGIN IMMEDIATE").unwrap();
    let held = async || {
        let balance: Value = soon(gateway.get("/v1/key", &key).send()).await.unwrap().json().await.unwrap();
        balance["held_usd"].as_str().unwrap().parse::<protocol::Usd>().unwrap()
    };
    let before = held().await;
    permit.add_permits(1);
    let reading = tokio::spawn(answer.bytes());
    // Once it stands still, it stands still for good, or the answer has come whole.
    let (mut last, mut same) = (held().await, 0);
    while same < 50 && !reading.is_finished() {
        let now = held().await;
        same = if now > before && now == last { same + 1 } else { 0 };
        last = now;
    }
    assert!(!reading.is_finished(), "it was passed on before the disk knew of it");
    ours.execute_batch("ROLLBACK").unwrap();
    assert!(soon(reading).await.unwrap().unwrap() == long);
}
