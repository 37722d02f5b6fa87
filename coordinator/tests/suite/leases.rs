//! Leases over the real doors: replayed, lost, cancelled, ended.

use std::time::Duration;

use protocol::{
    Code, Secret, TaskState,
    client::ClientError,
    inside::HeldLease,
    lease::{Heartbeat, OrderKind},
    limits,
    report::{Outcome, Report, Stage},
    worker::WorkerEnd,
};
use uuid::Uuid;

use crate::house::{House, code, exec, held, id, named, report, soon};

fn gone(reason: &str) -> WorkerEnd {
    WorkerEnd { exit: Some(137), reason: reason.to_owned() }
}

#[tokio::test]
async fn the_same_request_brings_the_same_lease() {
    let house = House::open().await;
    for name in ["a", "b"] {
        house.submit(named(name)).await;
    }
    let worker = house.worker("q").await;
    let request = Uuid::new_v4();
    let first = worker.lease_by(request, 0).await.unwrap().unwrap();
    assert_eq!(worker.lease_by(request, 0).await.unwrap().unwrap(), first);
    worker.with(&first).start().await.unwrap();
    let running = worker.lease_by(request, 0).await.unwrap().unwrap();
    assert_eq!((running.task, running.lease.token), (first.task.clone(), first.lease.token.clone()));
    worker.with(&first).result(&report(Outcome::Succeeded)).await.unwrap();
    // It stands no more, so the same id asks anew.
    assert_eq!(worker.lease_by(request, 0).await.unwrap().unwrap().task.id.as_str(), "b");
    // Another worker's request is its own, whatever its id.
    let other = house.worker("q").await;
    assert!(other.lease_by(request, 0).await.unwrap().is_none());
}

#[tokio::test]
async fn each_waiter_gets_one_task_and_no_task_two() {
    let house = House::open().await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let worker = house.worker("q").await;
        waiting.push(tokio::spawn(async move { worker.lease_by(Uuid::new_v4(), 20).await }));
    }
    for _ in 0..8 {
        house.submit(exec("q")).await;
    }
    let mut tasks = std::collections::BTreeSet::new();
    for worker in waiting {
        tasks.insert(soon(worker).await.unwrap().unwrap().unwrap().task.id);
    }
    assert_eq!(tasks.len(), 8);
}

#[tokio::test]
async fn a_waiter_that_hangs_up_swallows_no_task() {
    let house = House::open().await;
    let gone = house.worker("q").await;
    let waiting = tokio::spawn(async move { gone.lease_by(Uuid::new_v4(), 50).await });
    tokio::task::yield_now().await;
    waiting.abort();
    let _ = waiting.await;
    house.submit(named("t")).await;
    let worker = house.worker("q").await;
    let leased = worker.lease_by(Uuid::new_v4(), 15).await.unwrap().unwrap();
    assert_eq!(leased.lease.attempt, 1);
}

#[tokio::test]
async fn a_lease_is_its_token_and_its_attempt() {
    let house = House::open().await;
    let (worker, good) = house.started("t").await;
    let token = house.worker("q").await.lease().await;
    assert!(token.is_none());
    let wrong = |token: &str, attempt| {
        worker.client.with_lease(HeldLease { task: id("t"), token: Secret::new(token), attempt })
    };
    let lost = |error: ClientError| match error {
        ClientError::Refused(problem) => (problem.code, problem.state),
        other => panic!("{other}"),
    };
    let expected = (Code::LeaseLost, Some(TaskState::Running));
    for stale in [wrong("cwl-1-00", 1), wrong("", 1), wrong("x", 1)] {
        assert_eq!(lost(stale.start().await.unwrap_err()), expected);
        assert_eq!(lost(stale.heartbeat(&Heartbeat::default(), Duration::ZERO).await.unwrap_err()), expected);
        assert_eq!(lost(stale.result(&report(Outcome::Failed)).await.unwrap_err()), expected);
        assert_eq!(lost(stale.events(&crate::house::batch(0, &["x"])).await.unwrap_err()), expected);
    }
    good.result(&report(Outcome::Succeeded)).await.unwrap();
    // The token of one task says nothing of another.
    house.submit(named("u")).await;
    let other = worker.lease().await.unwrap();
    let mixed = HeldLease { task: id("t"), ..held(&other) };
    assert_eq!(code(worker.client.with_lease(mixed).start().await), Code::LeaseLost);
    let nowhere = HeldLease { task: id("nowhere"), ..held(&other) };
    assert_eq!(code(worker.client.with_lease(nowhere).start().await), Code::UnknownTask);
}

#[tokio::test]
async fn a_result_is_answered_alike_however_often_it_comes() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    let first = lease.result(&report(Outcome::Failed)).await.unwrap();
    assert_eq!(lease.result(&report(Outcome::Failed)).await.unwrap(), first);
    let other = Report { message: Some("another".to_owned()), ..report(Outcome::Succeeded) };
    assert_eq!(code(lease.result(&other).await), Code::LeaseLost);
    assert_eq!(code(lease.start().await), Code::LeaseLost);
    let task = house.task("t").await;
    assert_eq!((task.state, task.result), (TaskState::Failed, Some(report(Outcome::Failed))));
}

#[tokio::test]
async fn a_late_result_is_kept_and_changes_nothing() {
    let house = House::open().await;
    let (worker, stale) = house.started("t").await;
    house.owner.end_worker(&worker.id, &gone("oom")).await.unwrap();
    assert_eq!(house.task("t").await.reason.as_deref(), Some("oom"));
    let next = house.worker("q").await;
    let leased = next.lease_by(Uuid::new_v4(), 15).await.unwrap().unwrap();
    assert_eq!(leased.lease.attempt, 2);
    let lease = next.with(&leased);
    lease.start().await.unwrap();
    // Sent by another worker of the queue, as a launcher does for a sandbox that has died.
    let late = next.client.with_lease(HeldLease { task: id("t"), ..lease_of(&stale, &house).await });
    assert_eq!(code(late.result(&report(Outcome::Succeeded)).await), Code::LeaseLost);
    assert_eq!(house.state("t").await, TaskState::Running);
    lease.result(&report(Outcome::Failed)).await.unwrap();
    assert_eq!(house.task("t").await.result, Some(report(Outcome::Failed)));
    let database = rusqlite::Connection::open(house.folders.coordinator_db()).unwrap();
    let kept: Vec<(u32, Option<String>)> = database
        .prepare("SELECT attempt, answer FROM reports ORDER BY n")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(kept, [(1, None), (2, Some("failed".to_owned()))]);
}

/// The first lease of `t`, made again from the secret.
async fn lease_of(_: &protocol::client::LeasedClient, house: &House) -> HeldLease {
    let tokens = coordinator::tokens::Tokens::open(&house.folders.data.join("coordinator.secret")).unwrap();
    let claim = coordinator::tokens::Claim { attempt: 1, serial: 1 };
    HeldLease { task: id("t"), token: tokens.of_lease(&id("t"), claim), attempt: 1 }
}

#[tokio::test]
async fn a_run_is_cancelled_by_an_order_that_comes_at_once() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    let beat = lease.heartbeat(&Heartbeat::default(), Duration::ZERO).await.unwrap();
    assert!(beat.orders.is_empty());
    let waiting = {
        let lease = lease.clone();
        tokio::spawn(async move { lease.heartbeat(&Heartbeat::default(), Duration::from_secs(10)).await })
    };
    assert_eq!(
        house.owner.cancel(&id("t"), &protocol::task::Cancel::default()).await.unwrap().state,
        TaskState::Running
    );
    let beat = soon(waiting).await.unwrap().unwrap();
    assert_eq!(beat.orders.len(), 1);
    assert_eq!(beat.orders[0].seq, 1);
    assert_eq!(beat.orders[0].kind, OrderKind::Cancel { grace_s: limits::KILL_GRACE.as_secs() });
    // Again until it is acknowledged, however often it is asked for.
    house.owner.cancel(&id("t"), &protocol::task::Cancel::default()).await.unwrap();
    assert_eq!(lease.heartbeat(&Heartbeat { after: 0 }, Duration::ZERO).await.unwrap().orders, beat.orders);
    assert!(lease.heartbeat(&Heartbeat { after: 1 }, Duration::ZERO).await.unwrap().orders.is_empty());
    lease.result(&report(Outcome::Cancelled)).await.unwrap();
    assert_eq!(house.state("t").await, TaskState::Cancelled);
    assert_eq!(
        code(house.owner.cancel(&id("t"), &protocol::task::Cancel::default()).await),
        Code::WrongState
    );
}

#[tokio::test]
async fn what_nobody_runs_is_cancelled_at_once() {
    let house = House::open().await;
    house.submit(named("ready")).await;
    assert_eq!(
        house.owner.cancel(&id("ready"), &protocol::task::Cancel::default()).await.unwrap().state,
        TaskState::Cancelled
    );
    house.submit(named("leased")).await;
    let worker = house.worker("q").await;
    let lease = worker.with(&worker.lease().await.unwrap());
    assert_eq!(
        house.owner.cancel(&id("leased"), &protocol::task::Cancel::default()).await.unwrap().state,
        TaskState::Cancelled
    );
    assert_eq!(code(lease.start().await), Code::LeaseLost);
    let (worker, _) = house.started("scheduled").await;
    house.owner.end_worker(&worker.id, &gone("killed")).await.unwrap();
    assert_eq!(
        house.owner.cancel(&id("scheduled"), &protocol::task::Cancel::default()).await.unwrap().state,
        TaskState::Cancelled
    );
    assert_eq!(
        code(house.owner.cancel(&id("nowhere"), &protocol::task::Cancel::default()).await),
        Code::UnknownTask
    );
}

#[tokio::test]
async fn a_waiting_heartbeat_ends_with_its_lease() {
    let house = House::open().await;
    let (worker, lease) = house.started("t").await;
    let waiting =
        tokio::spawn(async move { lease.heartbeat(&Heartbeat::default(), Duration::from_secs(10)).await });
    house.owner.end_worker(&worker.id, &gone("oom")).await.unwrap();
    let ended = soon(waiting).await.unwrap();
    // The token may be refused before the lease is looked at.
    assert!(matches!(code(ended), Code::LeaseLost | Code::WrongKey));
    assert_eq!(house.state("t").await, TaskState::Scheduled);
}

fn stages(count: usize, name: usize) -> Vec<Stage> {
    vec![Stage { name: "x".repeat(name), ms: 1 }; count]
}

#[tokio::test]
async fn a_report_over_its_limits_is_refused_and_the_run_goes_on() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    let at_limit = Report {
        message: Some("x".repeat(limits::MESSAGE_BYTES)),
        log_tail: "x".repeat(limits::LOG_TAIL_BYTES),
        reason: Some("x".repeat(limits::REASON_BYTES)),
        head: Some("a".repeat(limits::HEAD_CHARS)),
        stages: stages(limits::STAGES, limits::NAME_CHARS),
        ..report(Outcome::Succeeded)
    };
    for over in [
        Report { message: Some("x".repeat(limits::MESSAGE_BYTES + 1)), ..report(Outcome::Succeeded) },
        Report { log_tail: "x".repeat(limits::LOG_TAIL_BYTES + 1), ..report(Outcome::Succeeded) },
        Report { reason: Some("x".repeat(limits::REASON_BYTES + 1)), ..report(Outcome::Succeeded) },
        Report { head: Some("a".repeat(limits::HEAD_CHARS + 1)), ..report(Outcome::Succeeded) },
        Report { stages: stages(limits::STAGES + 1, 1), ..report(Outcome::Succeeded) },
        Report { stages: stages(1, limits::NAME_CHARS + 1), ..report(Outcome::Succeeded) },
    ] {
        assert_eq!(code(lease.result(&over).await), Code::TooLarge);
    }
    for head in ["", "HEAD", &"g".repeat(40), &"a".repeat(39)] {
        let no_commit = Report { head: Some(head.to_owned()), ..report(Outcome::Succeeded) };
        assert_eq!(code(lease.result(&no_commit).await), Code::Invalid, "{head}");
    }
    assert_eq!(house.state("t").await, TaskState::Running);
    lease.result(&at_limit).await.unwrap();
}

#[tokio::test]
async fn a_task_that_was_not_started_has_no_result() {
    let house = House::open().await;
    house.submit(named("t")).await;
    let worker = house.worker("q").await;
    let lease = worker.with(&worker.lease().await.unwrap());
    assert_eq!(code(lease.result(&report(Outcome::Succeeded)).await), Code::WrongState);
    assert_eq!(house.state("t").await, TaskState::Leased);
    // Starting twice is starting once.
    lease.start().await.unwrap();
    lease.start().await.unwrap();
    assert_eq!(house.task("t").await.attempt, 1);
    let again = Report { reason: Some("no_disk: full".to_owned()), ..report(Outcome::Lost) };
    assert_eq!(lease.result(&again).await.unwrap().state, TaskState::Scheduled);
    assert_eq!(house.task("t").await.reason.as_deref(), Some("no_disk: full"));
}
