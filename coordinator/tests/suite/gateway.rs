//! Agent tasks with the real gateway, where it is built: keys before the start, and accounts after the end.

use std::{path::Path, process::Stdio, time::Duration};

use futures_util::StreamExt as _;
use protocol::{
    EventBody, TaskState,
    client::{AdminClient, Endpoint},
    report::{Outcome, Report},
    task::Retry,
    worker::WorkerEnd,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::{Child, Command},
};

use crate::house::{House, agent, id, report, soon, until};

/// The gateway on the house's folders, once its admin door is open; `None`, and said, where it is not built.
async fn gateway(house: &House) -> Option<Child> {
    gateway_before(house, "http://127.0.0.1:9").await
}

/// The same, with this model behind it.
async fn gateway_before(house: &House, model: &str) -> Option<Child> {
    let program =
        Path::new(env!("CARGO_BIN_EXE_code-workers-coordinator")).with_file_name("code-workers-gateway");
    if !program.is_file() {
        assert!(std::env::var_os("CI").is_none(), "{} is not built", program.display());
        println!("skipped: {} is not built (cargo build -p gateway)", program.display());
        return None;
    }
    let base = house.base();
    let child = Command::new(program)
        .env_clear()
        .current_dir(base)
        .env("XDG_CONFIG_HOME", base.join("c"))
        .env("XDG_DATA_HOME", base.join("d"))
        .env("XDG_RUNTIME_DIR", base.join("r"))
        .env("GATEWAY_BIND", "127.0.0.1:0")
        .env("ANTHROPIC_UPSTREAM_URL", model)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let door = house.folders.gateway_admin_socket();
    until(|| std::os::unix::net::UnixStream::connect(&door).is_ok()).await;
    Some(child)
}

fn unsettled(house: &House) -> i64 {
    let database = rusqlite::Connection::open(house.folders.coordinator_db()).unwrap();
    database.query_row("SELECT COUNT(*) FROM keys", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_start_brings_a_key_and_a_result_brings_the_account() {
    let house = House::open().await;
    let Some(_gateway) = gateway(&house).await else { return };
    house.submit(agent("t")).await;
    let worker = house.worker("q").await;
    let leased = worker.lease().await.unwrap();
    let lease = worker.with(&leased);
    let started = lease.start().await.unwrap();
    let key = started.virtual_key.clone().unwrap();
    assert!(key.expose().starts_with("sk-cw-"));
    assert_eq!(started.budget_usd.unwrap().to_string(), "5.00");
    assert_eq!(lease.start().await.unwrap().virtual_key, Some(key), "the same again");
    assert_eq!(unsettled(&house), 1);
    lease.result(&Report { message: None, ..report(Outcome::Succeeded) }).await.unwrap();
    let usage = house.task("t").await.usage.unwrap();
    assert_eq!((usage.requests, usage.spent_usd.nanos()), (0, 0));
    assert_eq!(unsettled(&house), 0);
}

#[tokio::test]
async fn each_attempt_has_its_own_key_and_a_lost_one_is_swept() {
    let house = House::open().await;
    let Some(_gateway) = gateway(&house).await else { return };
    house.submit(agent("t")).await;
    let first = house.worker("q").await;
    let lease = first.with(&first.lease().await.unwrap());
    let first_key = lease.start().await.unwrap().virtual_key;
    let end = WorkerEnd { exit: None, reason: "oom".to_owned() };
    house.owner.end_worker(&first.id, &end).await.unwrap();
    until(|| unsettled(&house) == 0).await;
    let second = house.worker("q").await;
    let leased = second.lease_by(uuid::Uuid::new_v4(), 15).await.unwrap().unwrap();
    assert_ne!(second.with(&leased).start().await.unwrap().virtual_key, first_key);
}

#[tokio::test]
async fn a_result_does_not_wait_for_a_gateway_that_is_gone() {
    let house = House::open().await;
    let Some(mut child) = gateway(&house).await else { return };
    house.submit(agent("t")).await;
    let worker = house.worker("q").await;
    let lease = worker.with(&worker.lease().await.unwrap());
    lease.start().await.unwrap();
    child.kill().await.unwrap();
    let accepted = lease.result(&report(Outcome::Succeeded)).await.unwrap();
    assert_eq!(accepted.state, TaskState::Succeeded);
    assert_eq!((house.task("t").await.usage, unsettled(&house)), (None, 1));
    let Some(_gateway) = gateway(&house).await else { return };
    until(|| unsettled(&house) == 0).await;
    let task = house.owner.task(&id("t"), Duration::ZERO).await.unwrap();
    assert_eq!(task.usage.map(|usage| usage.requests), Some(0));
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_accounted_for_when_it_is_known() {
    let house = House::open().await;
    let model = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", model.local_addr().unwrap());
    let Some(_gateway) = gateway_before(&house, &url).await else { return };
    house.submit(agent("t")).await;
    let worker = house.worker("q").await;
    let lease = worker.with(&worker.lease().await.unwrap());
    let key = lease.start().await.unwrap().virtual_key.unwrap();
    let client = reqwest::Client::builder().unix_socket(house.base().join("r/code-workers/gateway.sock"));
    let question = r#"{"model": "claude-haiku-4-5", "max_tokens": 500, "messages": [{"role": "user", "content": "hi"}]}"#;
    let asking =
        client.build().unwrap().post("http://gateway/v1/messages").bearer_auth(key.expose()).body(question);
    let asking = tokio::spawn(asking.send());
    let (mut connection, _) =
        tokio::time::timeout(Duration::from_secs(30), model.accept()).await.unwrap().unwrap();
    let mut asked = [0; 4096];
    assert!(connection.read(&mut asked).await.unwrap() > 0);

    lease.result(&report(Outcome::Succeeded)).await.unwrap();
    let usage = house.task("t").await.usage.unwrap();
    assert!(usage.held_usd.nanos() > 0, "{usage:?}");
    assert_eq!((usage.requests, unsettled(&house)), (0, 1));

    let body = r#"{"usage":{"input_tokens":1000,"output_tokens":100}}"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    connection.write_all(answer.as_bytes()).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap().status(), 200);
    until(|| unsettled(&house) == 0).await;
    let usage = house.task("t").await.usage.unwrap();
    assert_eq!((usage.requests, usage.spent_usd.to_string().as_str()), (1, "0.0015"));
    assert_eq!(usage.held_usd.nanos(), 0);
}

#[tokio::test]
async fn a_worker_with_its_own_key_needs_no_gateway_and_is_given_none() {
    let house = House::open().await;
    house.submit(agent("t")).await;
    let worker = house.worker("q").await;
    let leased = worker.lease().await.unwrap();
    let lease = worker.with(&leased);
    let started = lease.start_with_own_key().await.unwrap();
    assert_eq!((started.virtual_key, started.budget_usd), (None, None));
    let accepted = lease.result(&report(Outcome::Succeeded)).await.unwrap();
    assert_eq!(accepted.state, TaskState::Succeeded);
}

#[tokio::test]
async fn a_retry_is_paid_from_the_first_tasks_account() {
    let house = House::open().await;
    let Some(_gateway) = gateway(&house).await else { return };
    house.submit(agent("t")).await;
    for (task, of) in [("t", None), ("again", Some("t")), ("and-again", Some("again"))] {
        if let Some(of) = of {
            house.owner.retry(&id(of), &Retry { id: Some(id(task)) }).await.unwrap();
        }
        let worker = house.worker("q").await;
        let lease = worker.with(&worker.lease().await.unwrap());
        lease.start().await.unwrap();
        lease.result(&report(Outcome::Failed)).await.unwrap();
        let admin = AdminClient::new(Endpoint::Unix(house.folders.gateway_admin_socket())).unwrap();
        let key = admin.task_key(&id(task), 1).await.unwrap();
        assert_eq!(key.accounts, ["task:t", "repo:q", "day"], "{task}");
    }
}

/// Asks through the gateway with this key, and has the model say that it produced so many tokens.
async fn spend(house: &House, model: &TcpListener, key: &protocol::Secret, output_tokens: u64) {
    let client = reqwest::Client::builder().unix_socket(house.base().join("r/code-workers/gateway.sock"));
    let question = r#"{"model": "claude-haiku-4-5", "max_tokens": 500, "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "web_search_20250305", "name": "web_search"}]}"#;
    let asking =
        client.build().unwrap().post("http://gateway/v1/messages").bearer_auth(key.expose()).body(question);
    let asking = tokio::spawn(asking.send());
    let (mut connection, _) = soon(model.accept()).await.unwrap();
    assert!(connection.read(&mut [0; 4096]).await.unwrap() > 0);
    let body = format!(r#"{{"usage":{{"input_tokens":0,"output_tokens":{output_tokens}}}}}"#);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    connection.write_all(answer.as_bytes()).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap().status(), 200);
}

/// The budget events of a task, once there are so many.
async fn budget_events(house: &House, count: usize) -> Vec<(String, u8)> {
    let stream = house.owner.events(&id("t"), 0, true).await.unwrap();
    let told = stream.filter_map(async |event| match event.unwrap().event.body {
        EventBody::Budget { account, percent, .. } => Some((account, percent)),
        _ => None,
    });
    soon(told.take(count).collect()).await
}

#[tokio::test]
async fn a_task_is_told_when_its_budget_comes_to_its_end_and_what_was_taken_out() {
    let mut house = House::open().await;
    let model = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", model.local_addr().unwrap());
    let Some(_gateway) = gateway_before(&house, &url).await else { return };
    house.submit(agent("t")).await;
    let worker = house.worker("q").await;
    let lease = worker.with(&worker.lease().await.unwrap());
    let key = lease.start().await.unwrap().virtual_key.unwrap();
    lease.events(&crate::house::batch(0, &["before"])).await.unwrap();
    // 5 USD a million, of 5 USD.
    spend(&house, &model, &key, 820_000).await;
    let of_task = |percent| ("task:t".to_owned(), percent);
    assert_eq!(budget_events(&house, 1).await, [of_task(80)]);
    assert_eq!(
        lease.events(&crate::house::batch(1, &["after"])).await.unwrap().stored,
        2,
        "it is none of the worker's"
    );

    house = house.restart().await;
    spend(&house, &model, &key, 140_000).await;
    assert_eq!(budget_events(&house, 2).await, [of_task(80), of_task(95)], "once each, over a restart too");

    lease.result(&report(Outcome::Succeeded)).await.unwrap();
    let usage = house.task("t").await.usage.unwrap();
    assert_eq!(usage.spent_usd.to_string(), "4.80");
    assert_eq!(usage.removed.values().sum::<u64>(), 2, "{usage:?}");
}

#[tokio::test]
async fn money_is_not_a_workers_to_tell() {
    let house = House::open().await;
    let (_worker, lease) = house.started("t").await;
    let mut events = crate::house::batch(0, &["x"]);
    events.events[0].body = EventBody::Budget {
        account: "day".to_owned(),
        percent: 95,
        spent_usd: protocol::Usd::ZERO,
        budget_usd: protocol::Usd::ZERO,
    };
    assert_eq!(crate::house::code(lease.events(&events).await), protocol::Code::Invalid);
}
