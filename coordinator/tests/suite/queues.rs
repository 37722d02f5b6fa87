//! Queues that pause, drain and have limits; and what is counted of them.

use futures_util::FutureExt as _;
use protocol::{
    Code, TaskState,
    queue::{ChangeQueue, QueueMode},
    report::Outcome,
};
use uuid::Uuid;

use crate::house::{House, KEY, code, exec, id, named, queue, report, soon};

const fn mode(mode: QueueMode) -> ChangeQueue {
    ChangeQueue { mode: Some(mode), max_running: None }
}

const fn limit(max_running: u32) -> ChangeQueue {
    ChangeQueue { mode: None, max_running: Some(max_running) }
}

#[tokio::test]
async fn a_paused_queue_hands_nothing_out_until_it_is_open_again() {
    let house = House::open().await;
    let status = house.owner.change_queue(&queue("q"), &mode(QueueMode::Paused)).await.unwrap();
    assert_eq!((status.mode, status.max_running), (QueueMode::Paused, 0));
    house.submit(named("t")).await;
    let house = house.restart().await;
    let worker = house.worker("q").await;
    assert!(worker.lease().await.is_none(), "over a restart too");
    let waits = tokio::spawn(async move { worker.lease_by(Uuid::new_v4(), 50).await.unwrap() });
    house.owner.change_queue(&queue("q"), &mode(QueueMode::Open)).await.unwrap();
    assert_eq!(soon(waits).await.unwrap().unwrap().task.id, id("t"));
}

#[tokio::test]
async fn a_draining_queue_takes_nothing_in_and_hands_out_what_it_has() {
    let house = House::open().await;
    house.submit(named("t")).await;
    house.owner.change_queue(&queue("q"), &mode(QueueMode::Draining)).await.unwrap();
    let refused = house.owner.submit(&named("new"), std::time::Duration::ZERO).await;
    assert_eq!(code(refused), Code::QueueDraining);
    house.submit(named("t")).await;
    house.submit(exec("other")).await;
    assert!(house.worker("q").await.lease().await.is_some());
    let status = house.owner.queues().await.unwrap();
    let depths: Vec<_> = status.iter().map(|q| (q.name.as_str(), q.depth.ready, q.depth.leased)).collect();
    assert_eq!(depths, [("other", 1, 0), ("q", 0, 1)]);
    assert_eq!(code(house.owner.change_queue(&queue("no"), &limit(1)).await), Code::UnknownRepository);
}

/// Lets three tasks of each of two queues wait for workers of both; how many are leased at once, and that each end
/// lets one more go.
async fn never_over(house: House, most_of_q: usize, most: usize, frees: fn(&str) -> bool) {
    for n in 0..3 {
        house.submit(named(&format!("q{n}"))).await;
        house.submit(protocol::submit::NewTask { id: Some(format!("o{n}")), ..exec("other") }).await;
    }
    let mut running = Vec::new();
    let mut waiting = Vec::new();
    for name in ["q", "other", "q", "other", "q", "other"] {
        let worker = house.worker(name).await;
        match worker.lease().await {
            Some(leased) => running.push((name, worker.with(&leased))),
            None => waiting.push((
                name,
                tokio::spawn(async move {
                    let leased = worker.lease_by(Uuid::new_v4(), 50).await.unwrap().unwrap();
                    worker.with(&leased)
                }),
            )),
        }
    }
    let mut ended = 0;
    while !running.is_empty() {
        let of_q = running.iter().filter(|(name, _)| *name == "q").count();
        assert!(of_q <= most_of_q && running.len() <= most, "{of_q} of q, {} in all", running.len());
        let status = house.owner.queues().await.unwrap();
        let live: u64 = status.iter().map(|queue| queue.depth.leased + queue.depth.running).sum();
        assert_eq!(live, running.len() as u64);
        let (name, lease) = running.remove(0);
        lease.start().await.unwrap();
        lease.result(&report(Outcome::Succeeded)).await.unwrap();
        ended += 1;
        if !waiting.is_empty() && frees(name) {
            // One place is free, and somebody who waits for it gets it.
            let leases = waiting.iter_mut().map(|(_, lease)| lease);
            let (lease, at, _) = soon(futures_util::future::select_all(leases)).await;
            let (name, _) = waiting.remove(at);
            running.push((name, lease.unwrap()));
        }
    }
    assert_eq!(ended, 6);
}

#[tokio::test]
async fn a_queues_limit_is_never_passed_and_never_leaves_a_place_empty() {
    let house = House::open().await;
    house.owner.change_queue(&queue("q"), &limit(1)).await.unwrap();
    never_over(house, 1, 4, |ended| ended == "q").await;
}

#[tokio::test]
async fn the_limit_over_all_queues_is_never_passed_and_never_leaves_a_place_empty() {
    never_over(House::open_with("CODE_WORKERS_MAX_RUNNING", "2").await, 2, 2, |_| true).await;
}

#[tokio::test]
async fn a_limit_that_is_raised_lets_those_go_who_wait() {
    let house = House::open().await;
    house.owner.change_queue(&queue("q"), &limit(1)).await.unwrap();
    house.submit(named("a")).await;
    house.submit(named("b")).await;
    let (first, second) = (house.worker("q").await, house.worker("q").await);
    first.lease().await.unwrap();
    let mut waits = Box::pin(second.lease_by(Uuid::new_v4(), 50));
    assert!(waits.as_mut().now_or_never().is_none());
    house.owner.change_queue(&queue("q"), &limit(0)).await.unwrap();
    assert!(soon(waits).await.unwrap().is_some());
}

#[tokio::test]
async fn metrics_count_what_happened_and_need_the_owners_key() {
    let house = House::open().await;
    let (worker, lease) = house.started("t").await;
    lease.result(&report(Outcome::Succeeded)).await.unwrap();
    let (gone, _lease) = house.started("lost").await;
    let end = protocol::worker::WorkerEnd { exit: Some(137), reason: "oom".to_owned() };
    house.owner.end_worker(&gone.id, &end).await.unwrap();
    house.submit(named("waits")).await;
    let waiting = tokio::spawn(async move { worker.lease_by(Uuid::new_v4(), 50).await });
    soon(waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(house.state("lost").await, TaskState::Scheduled);

    assert_eq!(house.http().get(house.url("/metrics")).send().await.unwrap().status(), 401);
    let answer = house.http().get(house.url("/metrics")).bearer_auth(KEY).send().await.unwrap();
    let media_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(media_type.starts_with("application/openmetrics-text"), "{media_type}");
    let text = answer.text().await.unwrap();
    for line in [
        "code_workers_tasks{queue=\"q\",state=\"leased\"} 1",
        "code_workers_tasks{queue=\"q\",state=\"scheduled\"} 1",
        "code_workers_tasks_ended_total{queue=\"q\",state=\"succeeded\"} 1",
        "code_workers_leases_lost_total{queue=\"q\"} 1",
        "code_workers_retries_total{queue=\"q\"} 1",
        "code_workers_lease_wait_seconds_count{queue=\"q\"} 3",
        "code_workers_run_seconds_count{queue=\"q\",state=\"succeeded\"} 1",
        "code_workers_long_polls_waiting 0",
        "code_workers_commit_operations_count ",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains(KEY));
}
