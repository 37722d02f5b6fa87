//! What an owner orders of tasks: cancel, approve, retry, message. The test is the worker.

use std::time::Duration;

use jiff::Timestamp;
use protocol::{
    client::LeasedClient,
    event::{EventBody, NewEvent, NewEvents},
    lease::{Heartbeat, Order, OrderKind},
    report::Outcome,
};

use crate::{
    support::{Home, Ran, within},
    worker::{report, started, take},
};

/// The orders that a worker has, which waits for the first.
async fn orders(task: &LeasedClient) -> Vec<Order> {
    within(task.heartbeat(&Heartbeat::default(), Duration::from_secs(10))).await.unwrap().orders
}

/// Refused, with these words in what was said.
fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, Some(6), "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "{word:?} in {ran:?}");
    }
}

#[tokio::test]
async fn several_are_cancelled_and_the_worst_is_the_code() {
    let mut home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    for id in ["a", "b"] {
        home.cli(&["send", "--id", id, "sample", "x"]).await.ok();
    }
    let cancelled = home.cli(&["cancel", "a", "none", "b"]).await;
    refused(&cancelled, &["none"]);
    assert_eq!(cancelled.out, "a: cancelled\nb: cancelled\n");
    refused(&home.cli(&["cancel", "a"]).await, &["a is cancelled", "code-workers poll a"]);
    home.set("COORDINATOR_URL", "http://127.0.0.1:1");
    let gone = home.cli(&["cancel", "a", "b", "c"]).await;
    assert_eq!(gone.code, Some(5), "{gone:?}");
    assert!(gone.err.contains("not tried: b c"), "{gone:?}");
}

#[tokio::test]
async fn a_running_task_is_cancelled_by_its_worker_with_the_grace_that_was_asked_for() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    let task = started(&home, "t").await;
    let told = home.cli(&["cancel", "--grace", "3", "t"]).await.ok();
    assert!(told.starts_with("t: its worker was told"), "{told}");
    assert_eq!(orders(&task).await, [Order { seq: 1, kind: OrderKind::Cancel { grace_s: 3 } }]);
    assert_eq!(home.cli(&["poll", "t"]).await.code, Some(7));
}

#[tokio::test]
async fn a_task_that_needs_approval_waits_for_it() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    let sent = home.cli(&["send", "--approval", "--id", "t", "sample", "do it"]).await;
    assert!(sent.err.contains("code-workers approve t"), "{sent:?}");
    home.cli(&["send", "--id", "free", "sample", "do it"]).await.ok();
    take(&home).await;
    let listed = home.cli(&["list", "--state", "held"]).await.ok();
    assert!(listed.starts_with("t  sample  held") && listed.ends_with("(approval) do it\n"), "{listed}");
    let approved = home.cli(&["approve", "t", "none"]).await;
    refused(&approved, &["none"]);
    assert!(approved.out.starts_with("t: approved, and "), "{approved:?}");
    take(&home).await;
    refused(&home.cli(&["approve", "free"]).await, &["free is running", "--approval"]);
}

#[tokio::test]
async fn a_task_that_has_ended_is_tried_again() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    refused(&home.cli(&["retry", "none"]).await, &["none"]);
    let task = started(&home, "t").await;
    refused(&home.cli(&["retry", "t"]).await, &["t is running", "has ended"]);
    task.result(&report(Outcome::Failed, "no", Vec::new())).await.unwrap();

    let id = home.cli(&["retry", "t"]).await.ok().trim_end().to_owned();
    let polled = home.cli(&["poll", &id]).await;
    assert!(polled.out.contains("\nretry_of: t\n"), "{polled:?}");
    home.cli(&["cancel", &id]).await.ok();

    let worker =
        async { take(&home).await.result(&report(Outcome::TimedOut, "slow\n", Vec::new())).await.unwrap() };
    let (waited, _) = tokio::join!(home.cli(&["retry", "t", "--wait"]), worker);
    assert_eq!((waited.code, waited.out.as_str()), (Some(3), "slow\n"), "{waited:?}");
    assert!(waited.err.contains("retry_of: t\n"), "{waited:?}");
}

#[tokio::test]
async fn an_agent_is_told_something_and_the_log_says_when_it_has_it() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    home.cli(&["send", "--id", "t", "sample", "do it"]).await.ok();
    refused(&home.cli(&["message", "t", "x"]).await, &["t is ", "poll t"]);
    refused(&home.cli(&["message", "none", "x"]).await, &["none"]);
    let task = take(&home).await;
    let told = home.cli(&["message", "t", "use tabs"]).await;
    assert!(told.err.contains("code-workers logs -f t") && told.err.contains("<< 1"), "{told:?}");
    assert!(told.ok().starts_with("t: message 1 "));
    let long = home.cli_with(&["message", "t", "-"], b"it's\n\"x\" $HOME\n").await.ok();
    assert!(long.starts_with("t: message 2 "), "{long}");
    refused(&home.cli(&["message", "t", " "]).await, &["empty"]);
    let message = |seq, text: &str| Order { seq, kind: OrderKind::Message { text: text.to_owned() } };
    assert_eq!(orders(&task).await, [message(1, "use tabs"), message(2, "it's\n\"x\" $HOME\n")]);

    let body = EventBody::Message { seq: 1, text: "use tabs".to_owned() };
    let events = vec![NewEvent { at: Timestamp::now(), body, raw: None }];
    task.events(&NewEvents { first: 0, events }).await.unwrap();
    let logs = home.cli(&["logs", "t"]).await.ok();
    assert!(logs.contains("  << 1: use tabs\n"), "{logs}");
    task.result(&report(Outcome::Succeeded, "", Vec::new())).await.unwrap();
    refused(&home.cli(&["message", "t", "x"]).await, &["--base code-workers/t"]);
}
