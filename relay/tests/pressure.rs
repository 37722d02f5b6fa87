//! Many connections, a side that takes nothing, and one that is torn off.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

use relay::Limits;
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Behind, Connection, Relay, dial, echo, front, round_trip, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What two pairs of sockets and a pipe may hold by far, and a relay without bounds would not stop at.
const BOUND: usize = 64 << 20;

/// Writes until nothing more is taken, and says how much was.
async fn fill(client: &mut Connection) -> usize {
    let bytes = vec![7; 1 << 20];
    let mut taken = 0;
    let stuck = std::time::Duration::from_millis(300);
    while let Ok(written) = tokio::time::timeout(stuck, client.write(&bytes)).await {
        taken += written.unwrap();
        assert!(taken < BOUND, "it takes without end");
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_takes_nothing_holds_its_sender_back_and_nobody_else() {
    for (listens, dials) in [("tcp", "tcp"), ("unix", "unix")] {
        let folder = tempfile::tempdir().unwrap();
        let behind = Behind::start(dials, folder.path()).await;
        let relay = Relay::start(front(listens, folder.path()), behind.address(), Limits::default());
        let mut client = dial(&relay.address).await;
        let mut peer = soon(behind.accept()).await;
        let taken = fill(&mut client).await;

        let mut other = dial(&relay.address).await;
        tokio::spawn(echo(soon(behind.accept()).await));
        round_trip(&mut other).await;

        // What was held comes, to the last byte.
        soon(client.shutdown()).await.unwrap();
        let mut came = Vec::new();
        soon(peer.read_to_end(&mut came)).await.unwrap();
        assert_eq!(came.len(), taken);
    }
}

#[tokio::test]
async fn a_client_that_is_torn_off_ends_both_sides_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let behind = Behind::start("unix", folder.path()).await;
    let relay = Relay::start(front("tcp", folder.path()), behind.address(), Limits::default());
    let address = relay.address.to_string();
    let client = TcpStream::connect(address.trim_start_matches("tcp://")).await.unwrap();
    let mut peer = soon(behind.accept()).await;
    set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(soon(peer.read(&mut [0])).await.unwrap(), 0);
    soon(async {
        while relay.counters.open.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let told = relay.counters.to_string();
    assert!(told.contains("errors=1 [read: Connection reset by peer (os error 104)]=1"), "{told}");
}

#[tokio::test]
async fn what_cannot_be_dialled_is_counted_as_refused() {
    let folder = tempfile::tempdir().unwrap();
    let behind = Behind::start("unix", folder.path()).await;
    let relay = Relay::start(front("tcp", folder.path()), behind.address(), Limits::default());
    drop(behind);
    let mut client = dial(&relay.address).await;
    assert_eq!(soon(client.read(&mut [0])).await.unwrap_or(0), 0);
    let told = relay.counters.to_string();
    assert!(told.contains("accepted=1 refused=1 "), "{told}");
    assert!(told.contains("[dial: Connection refused (os error 111)]=1"), "{told}");
}

#[tokio::test]
async fn thousands_wait_at_once_and_each_is_served() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    // A connection is four files here: the client's, the relay's two, the peer's.
    let files = hard.unwrap_or(u64::MAX).min(20_000);
    let many = usize::try_from(files / 5).unwrap();
    assert!(many >= 200, "{files} open files are too few to show anything: ulimit -Hn");
    let folder = tempfile::tempdir().unwrap();
    let behind = Behind::start("unix", folder.path()).await;
    let limits = Limits { max_connections: NonZeroUsize::new(many).unwrap(), ..Limits::default() };
    let relay = Relay::start(front("unix", folder.path()), behind.address(), limits);
    tokio::spawn(async move {
        loop {
            tokio::spawn(echo(behind.accept().await));
        }
    });
    let mut clients = Vec::new();
    for _ in 0..many {
        clients.push(dial(&relay.address).await);
    }
    for client in &mut clients {
        round_trip(client).await;
    }
    assert_eq!(relay.counters.open.load(Ordering::Relaxed), many as u64);
    for client in clients.iter_mut().rev() {
        round_trip(client).await;
    }
}
