//! What owners order: messages, cancellation with a grace, approval, another try; and leases that workers give back.

use std::time::Duration;

use futures_util::FutureExt as _;
use protocol::{
    Code, TaskId, TaskState,
    lease::{Beat, Order, OrderKind, Release},
    limits,
    report::Outcome,
    submit::NewTask,
    task::{Cancel, Message, Retry},
    worker::WorkerEnd,
};
use uuid::Uuid;

use crate::{
    house::{House, agent, code, id, named, report, soon},
    time::Bench,
};

fn message(text: &str) -> Message {
    Message { text: text.to_owned(), id: None }
}

fn said(seq: u64, text: &str) -> Order {
    Order { seq, kind: OrderKind::Message { text: text.to_owned() } }
}

/// The order that an owner's cancellation becomes.
fn cancel(seq: u64, grace_s: u64) -> Order {
    Order { seq, kind: OrderKind::Cancel { grace_s } }
}

async fn beat(bench: &Bench, claim: coordinator::tokens::Claim, after: u64) -> Beat {
    let stop = tokio_util::sync::CancellationToken::new();
    let now = bench.clock.now();
    let task = id("t");
    soon(bench.queue.heartbeat(&task, claim, after, Duration::ZERO, now, &stop)).await.unwrap()
}

#[tokio::test]
async fn messages_come_in_order_until_they_are_acknowledged_and_again_in_the_next_attempt() {
    let bench = Bench::open().await;
    let claim = bench.run(agent("t")).await;
    let now = || bench.clock.now();
    let repeatable = Message { id: Some(Uuid::new_v4()), ..message("one") };
    for _ in 0..2 {
        assert_eq!(bench.queue.message(&id("t"), repeatable.clone(), now()).await.unwrap(), 1);
    }
    assert_eq!(bench.queue.message(&id("t"), message("two"), now()).await.unwrap(), 2);
    assert_eq!(beat(&bench, claim, 0).await.orders, [said(1, "one"), said(2, "two")]);
    assert_eq!(beat(&bench, claim, 1).await.orders, [said(2, "two")]);
    assert_eq!(beat(&bench, claim, 2).await.orders, []);

    let gone = WorkerEnd { exit: Some(137), reason: "oom".to_owned() };
    bench.queue.end_worker(bench.worker(), gone, now()).await.unwrap();
    let claim = bench.run_again().await;
    bench.queue.cancel(&id("t"), Cancel { grace_s: Some(60) }, now()).await.unwrap();
    assert_eq!(
        beat(&bench, claim, 0).await.orders,
        [said(1, "one"), said(2, "two"), cancel(3, 60)],
        "a new agent has not heard what the first one did"
    );
    let late = bench.queue.message(&id("t"), message("too late"), now()).await;
    assert_eq!(protocol::Problem::from(late.unwrap_err()).code, Code::WrongState);
}

#[tokio::test]
async fn orders_outlive_a_coordinator() {
    let bench = Bench::open().await;
    let claim = bench.run(agent("t")).await;
    bench.queue.message(&id("t"), message("go left"), bench.clock.now()).await.unwrap();
    let bench = bench.reopen();
    assert_eq!(beat(&bench, claim, 0).await.orders, [said(1, "go left")]);
    assert_eq!(bench.queue.message(&id("t"), message("go right"), bench.clock.now()).await.unwrap(), 2);
}

#[tokio::test]
async fn what_cannot_be_told_or_cancelled_is_refused() {
    let house = House::open().await;
    let (_worker, _lease) = house.started("exec").await;
    house.submit(agent("ready")).await;
    let tell = |task: &str, text: &str| {
        let (owner, task, text) = (house.owner.clone(), id(task), message(text));
        async move { code(owner.message(&task, &text).await) }
    };
    assert_eq!(tell("exec", "x").await, Code::Invalid, "it has no agent");
    assert_eq!(tell("ready", "x").await, Code::WrongState);
    assert_eq!(tell("nowhere", "x").await, Code::UnknownTask);
    assert_eq!(tell("ready", " ").await, Code::Invalid);
    assert_eq!(tell("ready", &"x".repeat(limits::PROMPT_BYTES + 1)).await, Code::TooLarge);
    let long = Cancel { grace_s: Some(limits::KILL_GRACE_CAP.as_secs() + 1) };
    assert_eq!(code(house.owner.cancel(&id("exec"), &long).await), Code::Invalid);
}

#[tokio::test]
async fn a_task_takes_so_many_messages() {
    let bench = Bench::open().await;
    bench.run(agent("t")).await;
    let task = id("t");
    let tell = || bench.queue.message(&task, message("again"), bench.clock.now());
    for _ in 0..limits::TASK_MESSAGES {
        tell().await.unwrap();
    }
    assert_eq!(protocol::Problem::from(tell().await.unwrap_err()).code, Code::TooLarge);
}

#[tokio::test]
async fn a_task_waits_for_approval_and_then_for_its_time() {
    let house = House::open().await;
    house.submit(NewTask { approval: true, ..named("t") }).await;
    let held = house.task("t").await;
    assert_eq!((held.state, held.reason.as_deref()), (TaskState::Held, Some("approval")));
    assert!(house.worker("q").await.lease().await.is_none());
    for _ in 0..2 {
        assert_eq!(house.owner.approve(&id("t")).await.unwrap().state, TaskState::Ready);
    }
    house.submit(named("free")).await;
    assert_eq!(code(house.owner.approve(&id("free")).await), Code::WrongState);

    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let timed = NewTask { approval: true, not_before: Some(later), ..named("timed") };
    house.submit(timed).await;
    assert_eq!(house.owner.approve(&id("timed")).await.unwrap().state, TaskState::Scheduled);
    let past = NewTask { not_before: Some(jiff::Timestamp::UNIX_EPOCH), ..named("past") };
    assert_eq!(house.submit(past).await.state, TaskState::Ready);
}

#[tokio::test]
async fn a_task_is_leased_when_its_time_has_come() {
    let bench = Bench::open().await;
    let hour = jiff::SignedDuration::from_hours(1);
    let due = bench.clock.now() + hour;
    bench.submit(NewTask { not_before: Some(due), ..named("t") }).await;
    assert!(bench.lease_at_once().await.is_none());
    bench.queue.reap(due - jiff::SignedDuration::from_millis(1)).await.unwrap();
    assert!(bench.lease_at_once().await.is_none());
    bench.queue.reap(due).await.unwrap();
    assert!(bench.lease_at_once().await.is_some());
}

#[tokio::test]
async fn a_retry_does_the_same_from_the_same_base_once() {
    let house = House::open().await;
    let (_worker, lease) = house.started("t").await;
    assert_eq!(code(house.owner.retry(&id("t"), &Retry::default()).await), Code::WrongState);
    lease.result(&report(Outcome::Failed)).await.unwrap();
    let retry = Retry { id: Some(id("again")) };
    for _ in 0..2 {
        let task = house.owner.retry(&id("t"), &retry).await.unwrap();
        assert_eq!((task.id.as_str(), task.state), ("again", TaskState::Ready));
        assert_eq!(task.retry_of.as_ref().map(TaskId::as_str), Some("t"));
        let old = house.task("t").await;
        assert_eq!((task.work, task.base), (old.work, old.base));
        assert_eq!((task.attempt, task.max_attempts), (0, old.max_attempts));
    }
    let leased = house.worker("q").await.lease().await.unwrap();
    assert_eq!(leased.task.id.as_str(), "again");
    let made = house.owner.retry(&id("t"), &Retry::default()).await.unwrap();
    assert!(made.id.as_str().starts_with("task-"), "{}", made.id);
    assert_eq!(code(house.owner.retry(&id("t"), &Retry { id: Some(id("t")) }).await), Code::TaskIdTaken);
}

#[tokio::test]
async fn a_retry_of_what_was_never_approved_waits_for_approval() {
    let house = House::open().await;
    house.submit(NewTask { approval: true, ..named("t") }).await;
    house.owner.cancel(&id("t"), &Cancel::default()).await.unwrap();
    assert_eq!(house.owner.retry(&id("t"), &Retry::default()).await.unwrap().state, TaskState::Held);
    house.submit(NewTask { approval: true, ..named("let-go") }).await;
    house.owner.approve(&id("let-go")).await.unwrap();
    house.owner.cancel(&id("let-go"), &Cancel::default()).await.unwrap();
    assert_eq!(house.owner.retry(&id("let-go"), &Retry::default()).await.unwrap().state, TaskState::Ready);
}

#[tokio::test]
async fn one_unfinished_task_has_a_unique_key() {
    let house = House::open().await;
    let keyed = |name: &str| NewTask { unique_key: Some("nightly".to_owned()), ..named(name) };
    house.submit(keyed("a")).await;
    house.submit(keyed("a")).await;
    let taken = house.owner.submit(&keyed("b"), Duration::ZERO).await.unwrap_err();
    let protocol::client::ClientError::Refused(problem) = taken else { panic!("{taken}") };
    assert_eq!((problem.code, problem.task), (Code::UniqueKeyTaken, Some(id("a"))));
    let other = NewTask { queue: "other".to_owned(), ..keyed("elsewhere") };
    house.submit(other).await;
    house.owner.cancel(&id("a"), &Cancel::default()).await.unwrap();
    house.submit(keyed("b")).await;
    assert_eq!(code(house.owner.retry(&id("a"), &Retry::default()).await), Code::UniqueKeyTaken);
}

#[tokio::test]
async fn a_lease_that_its_worker_gives_back_is_the_next_ones_at_once() {
    let house = House::open().await;
    house.submit(named("t")).await;
    let (worker, waiting) = (house.worker("q").await, house.worker("q").await);
    let first = worker.lease().await.unwrap();
    let next = tokio::spawn(async move { waiting.lease_by(Uuid::new_v4(), 50).await.unwrap() });
    let release = Release { reason: "stopped: its launcher stops".to_owned() };
    worker.with(&first).release(&release).await.unwrap();
    let second = soon(next).await.unwrap().unwrap();
    assert_eq!((second.lease.attempt, second.task.id), (1, id("t")));
    assert_ne!(second.lease.token, first.lease.token);
    assert_eq!(code(worker.with(&first).release(&release).await), Code::LeaseLost);
    let (worker, running) = house.started("running").await;
    assert_eq!(code(running.release(&release).await), Code::WrongState);
    drop(worker);
}

#[tokio::test]
async fn a_heartbeat_with_nothing_to_tell_waits() {
    let bench = Bench::open().await;
    let claim = bench.run(agent("t")).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let (task, now) = (id("t"), bench.clock.now());
    let mut waits =
        std::pin::pin!(bench.queue.heartbeat(&task, claim, 0, Duration::from_secs(600), now, &stop));
    assert!(waits.as_mut().now_or_never().is_none());
    bench.queue.message(&id("t"), message("x"), bench.clock.now()).await.unwrap();
    assert_eq!(soon(waits).await.unwrap().orders, [said(1, "x")]);
}
