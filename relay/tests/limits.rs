//! Idleness and lifetime, by a clock that the tests set.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use relay::Limits;
use support::{Behind, Connection, Relay, echo, front};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, advance};

const SECOND: Duration = Duration::from_secs(1);

/// A relay with an echo behind it, and a client that has been through it once. The clock stands still while anything
/// can be done, and else goes on to the next timer: there must be none before the relay's.
async fn connected(limits: Limits) -> (Relay, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let behind = Behind::start("tcp", folder.path()).await;
    let relay = Relay::start(front("tcp", folder.path()), behind.address(), limits);
    tokio::spawn(async move {
        loop {
            tokio::spawn(echo(behind.accept().await));
        }
    });
    let address = relay.address.to_string();
    let client = tokio::net::TcpStream::connect(address.trim_start_matches("tcp://")).await;
    let mut client: Connection = Box::new(client.unwrap());
    there_and_back(&mut client).await;
    (relay, client)
}

async fn there_and_back(client: &mut Connection) {
    client.write_all(b"x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
}

/// Waits for the end, for longer than any limit here.
async fn cut(client: &mut Connection) -> bool {
    let read = tokio::time::timeout(100_000 * SECOND, client.read(&mut [0])).await;
    read.is_ok_and(|read| read.unwrap() == 0)
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn what_carries_nothing_is_cut_and_what_carries_a_little_is_not() {
    let limits = Limits { idle: Some(60 * SECOND), lifetime: None, ..Limits::default() };
    let (relay, mut client) = connected(limits).await;
    for _ in 0..10 {
        advance(59 * SECOND).await;
        there_and_back(&mut client).await;
    }
    let last = Instant::now();
    assert!(cut(&mut client).await, "it goes on for ever");
    let after = last.elapsed();
    assert!((59 * SECOND..=61 * SECOND).contains(&after), "cut after {after:?}");
    let counters = &relay.counters;
    assert_eq!((count(&counters.cut_idle), count(&counters.cut_lifetime), count(&counters.open)), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_lives_too_long_is_cut_whatever_it_carries() {
    let limits = Limits { idle: Some(60 * SECOND), lifetime: Some(100 * SECOND), ..Limits::default() };
    let began = Instant::now();
    let (relay, mut client) = connected(limits).await;
    for _ in 0..9 {
        advance(10 * SECOND).await;
        there_and_back(&mut client).await;
    }
    assert!(cut(&mut client).await, "it goes on for ever");
    let after = began.elapsed();
    assert!((99 * SECOND..=101 * SECOND).contains(&after), "cut after {after:?}");
    let counters = &relay.counters;
    assert_eq!((count(&counters.cut_idle), count(&counters.cut_lifetime), count(&counters.open)), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn without_limits_nothing_is_cut() {
    let (relay, mut client) = connected(Limits { idle: None, lifetime: None, ..Limits::default() }).await;
    advance(1_000_000 * SECOND).await;
    there_and_back(&mut client).await;
    assert_eq!(count(&relay.counters.open), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_answer_of_many_minutes_is_not_cut_by_default() {
    let (_relay, mut client) = connected(Limits::default()).await;
    advance(45 * 60 * SECOND).await;
    there_and_back(&mut client).await;
}
