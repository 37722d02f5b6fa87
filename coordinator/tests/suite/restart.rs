//! A coordinator that stops in the middle, and the next one on the same folders.

use std::time::Duration;

use protocol::{Code, TaskState, client::Endpoint, client::WorkerClient, lease::Heartbeat, report::Outcome};

use crate::house::{House, batch, code, held, id, named, report, soon};

#[tokio::test]
async fn leases_live_on() {
    let house = House::open().await;
    house.submit(named("waits")).await;
    house.submit(named("is-leased")).await;
    let worker = house.worker("q").await;
    let first = worker.lease().await.unwrap();
    let running = worker.with(&first);
    running.start().await.unwrap();
    running.events(&batch(0, &["before"])).await.unwrap();
    let request = uuid::Uuid::new_v4();
    let second = worker.lease_by(request, 0).await.unwrap().unwrap();

    let house = house.restart().await;
    let endpoint = Endpoint::Unix(house.folders.worker_socket());
    let client = WorkerClient::new(endpoint, worker.token.clone()).unwrap();
    let running = client.with_lease(held(&first));
    running.heartbeat(&Heartbeat::default(), Duration::ZERO).await.unwrap();
    assert_eq!(running.events(&batch(0, &["before", "after"])).await.unwrap().stored, 2);
    assert_eq!(running.result(&report(Outcome::Succeeded)).await.unwrap().state, TaskState::Succeeded);
    let again = crate::house::Worker { client: client.clone(), ..worker };
    assert_eq!(again.lease_by(request, 0).await.unwrap().unwrap().lease.token, second.lease.token);
    client.with_lease(held(&second)).start().await.unwrap();

    let house = house.restart().await;
    assert_eq!(house.state("waits").await, TaskState::Succeeded);
    assert_eq!(house.state("is-leased").await, TaskState::Running);
    // The same report, answered alike by the third coordinator.
    let endpoint = Endpoint::Unix(house.folders.worker_socket());
    let client = WorkerClient::new(endpoint, again.token.clone()).unwrap();
    let accepted = client.with_lease(held(&first)).result(&report(Outcome::Succeeded)).await.unwrap();
    assert_eq!(accepted.state, TaskState::Succeeded);
    let events = house.events("waits", 0, 100).await;
    assert!(events.iter().map(|event| event.seq).eq(1..=6), "{events:?}");
}

#[tokio::test]
async fn a_cancellation_that_was_not_heard_is_told_again() {
    let house = House::open().await;
    let (worker, lease) = house.started("t").await;
    house.owner.cancel(&id("t"), &protocol::task::Cancel::default()).await.unwrap();
    let token = worker.token.clone();
    drop(lease);
    let house = house.restart().await;
    let tokens = coordinator::tokens::Tokens::open(&house.folders.data.join("coordinator.secret")).unwrap();
    let claim = house.first_claim("t").await;
    let lease =
        protocol::inside::HeldLease { task: id("t"), token: tokens.of_lease(&id("t"), claim), attempt: 1 };
    let client = WorkerClient::new(Endpoint::Unix(house.folders.worker_socket()), token).unwrap();
    let beat = client.with_lease(lease).heartbeat(&Heartbeat::default(), Duration::ZERO).await.unwrap();
    assert_eq!(beat.orders.len(), 1);
}

#[tokio::test]
async fn stopping_ends_whoever_waits() {
    let mut house = House::open().await;
    let (_, lease) = house.started("t").await;
    let worker = house.worker("q").await;
    let polling = tokio::spawn(async move { worker.lease_by(uuid::Uuid::new_v4(), 50).await });
    let beating =
        tokio::spawn(async move { lease.heartbeat(&Heartbeat::default(), Duration::from_secs(10)).await });
    let owner = house.owner.clone();
    let waiting = tokio::spawn(async move { owner.task(&id("t"), Duration::from_secs(50)).await });
    let mut stream = house.owner.events(&id("t"), 0, true).await.unwrap();
    for _ in 0..3 {
        soon(futures_util::StreamExt::next(&mut stream)).await.unwrap().unwrap();
    }
    house.stop().await;
    // Answered as if the time were over, or cut off before they were taken in.
    let polled = soon(polling).await.unwrap();
    assert!(polled.is_err() || polled.unwrap().is_none());
    let beaten = soon(beating).await.unwrap();
    assert!(beaten.is_err() || beaten.unwrap().orders.is_empty());
    let waited = soon(waiting).await.unwrap();
    assert!(waited.is_err() || waited.unwrap().state == TaskState::Running);
    assert!(soon(futures_util::StreamExt::next(&mut stream)).await.is_none_or(|end| end.is_err()));
    let gone = house.owner.health().await;
    assert!(gone.is_err());
}

#[tokio::test]
async fn a_second_coordinator_on_the_same_folders_does_not_start() {
    let house = House::open().await;
    let second = coordinator::Held::take(house.folders.clone()).unwrap_err();
    assert!(second.to_string().contains("another coordinator runs"), "{second}");
    assert_eq!(code(house.owner.task(&id("none"), Duration::ZERO).await), Code::UnknownTask);
}
