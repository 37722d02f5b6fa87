//! What goes in comes out, in both directions, and so do the ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use relay::Limits;
use support::{Behind, Connection, Relay, dial, front, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const BYTES: usize = 8 << 20;

/// Bytes that differ by position and direction.
fn stream_of(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(BYTES).collect()
}

/// Sends all of `sends` and its end while it reads everything that comes.
async fn exchange(connection: Connection, sends: Vec<u8>) -> Vec<u8> {
    let (mut reads, mut writes) = tokio::io::split(connection);
    let sending = tokio::spawn(async move {
        writes.write_all(&sends).await.unwrap();
        writes.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    reads.read_to_end(&mut received).await.unwrap();
    sending.await.unwrap();
    received
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_go_both_ways_at_once_over_every_pair() {
    for (listens, dials) in [("tcp", "tcp"), ("tcp", "unix"), ("unix", "tcp"), ("unix", "unix")] {
        let folder = tempfile::tempdir().unwrap();
        let behind = Behind::start(dials, folder.path()).await;
        let front = front(listens, folder.path());
        let relay = Relay::start(front, behind.address(), Limits::default());
        let peer = tokio::spawn(async move { exchange(behind.accept().await, stream_of(2)).await });
        let received = soon(exchange(dial(&relay.address).await, stream_of(1))).await;
        assert!(received == stream_of(2), "{listens} to {dials}: the answer differs");
        assert!(soon(peer).await.unwrap() == stream_of(1), "{listens} to {dials}: the request differs");
    }
}

#[tokio::test]
async fn the_end_of_a_request_does_not_end_its_answer() {
    for family in ["tcp", "unix"] {
        let folder = tempfile::tempdir().unwrap();
        let behind = Behind::start(family, folder.path()).await;
        let front = front(family, folder.path());
        let relay = Relay::start(front, behind.address(), Limits::default());
        let mut client = dial(&relay.address).await;
        let mut peer = soon(behind.accept()).await;

        client.write_all(b"request").await.unwrap();
        client.shutdown().await.unwrap();
        let mut request = String::new();
        soon(peer.read_to_string(&mut request)).await.unwrap();
        assert_eq!(request, "request");
        peer.write_all(b"answer").await.unwrap();
        peer.shutdown().await.unwrap();
        let mut answer = String::new();
        soon(client.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer, "answer");
    }
}

/// As a server does that answers and closes: its end comes with its last bytes, and nothing after it.
#[tokio::test]
async fn an_end_right_behind_the_last_bytes_is_passed_on() {
    for (listens, dials) in [("tcp", "tcp"), ("tcp", "unix"), ("unix", "tcp"), ("unix", "unix")] {
        let folder = tempfile::tempdir().unwrap();
        let behind = Behind::start(dials, folder.path()).await;
        let relay = Relay::start(front(listens, folder.path()), behind.address(), Limits::default());
        for _ in 0..50 {
            let mut client = dial(&relay.address).await;
            let mut peer = soon(behind.accept()).await;
            client.write_all(b"request").await.unwrap();
            let mut request = [0; 7];
            soon(peer.read_exact(&mut request)).await.unwrap();
            peer.write_all(b"answer").await.unwrap();
            drop(peer);
            let mut answer = String::new();
            soon(client.read_to_string(&mut answer)).await.unwrap();
            assert_eq!(answer, "answer", "{listens} to {dials}");
        }
    }
}

#[tokio::test]
async fn the_end_of_an_answer_does_not_end_its_request() {
    for family in ["tcp", "unix"] {
        let folder = tempfile::tempdir().unwrap();
        let behind = Behind::start(family, folder.path()).await;
        let front = front(family, folder.path());
        let relay = Relay::start(front, behind.address(), Limits::default());
        let mut client = dial(&relay.address).await;
        let mut peer = soon(behind.accept()).await;

        peer.shutdown().await.unwrap();
        assert_eq!(soon(client.read(&mut [0; 8])).await.unwrap(), 0);
        client.write_all(b"late").await.unwrap();
        client.shutdown().await.unwrap();
        let mut request = String::new();
        soon(peer.read_to_string(&mut request)).await.unwrap();
        assert_eq!(request, "late");
    }
}

#[tokio::test]
async fn a_hundred_megabytes_arrive_whole() {
    let folder = tempfile::tempdir().unwrap();
    let behind = Behind::start("unix", folder.path()).await;
    let relay = Relay::start(front("tcp", folder.path()), behind.address(), Limits::default());
    let block = stream_of(3);
    let mut client = dial(&relay.address).await;
    let mut peer = soon(behind.accept()).await;
    let blocks = 100_u32.div_ceil(8);
    let sent = block.clone();
    let sending = tokio::spawn(async move {
        for number in 0..blocks {
            client.write_all(&number.to_be_bytes()).await.unwrap();
            client.write_all(&sent).await.unwrap();
        }
        client.shutdown().await.unwrap();
        client
    });
    let mut came = vec![0; BYTES];
    for number in 0..blocks {
        assert_eq!(soon(peer.read_u32()).await.unwrap(), number);
        soon(peer.read_exact(&mut came)).await.unwrap();
        assert!(came == block, "block {number} differs");
    }
    assert_eq!(soon(peer.read(&mut came)).await.unwrap(), 0);
    drop(sending.await.unwrap());
    let all = u64::from(blocks) * (BYTES as u64 + 4);
    assert_eq!(relay.counters.sent.load(std::sync::atomic::Ordering::Relaxed), all);
}

/// The relay stands inside a sandbox too, where the kernel is another: all of this file once more there.
#[test]
fn bytes_and_ends_come_through_in_gvisor_too() {
    let found = std::process::Command::new("runsc").arg("--version").output();
    if found.is_err() || !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs runsc and root in CI");
        eprintln!("skipped: it needs runsc and root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ran = std::process::Command::new("runsc")
        .args(["--network=none", "--ignore-cgroups", "--root"])
        .arg(folder.path())
        .arg("do")
        .arg(std::env::current_exe().unwrap())
        .args(["--skip", "in_gvisor"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && told.contains(" 5 passed"), "{told}");
}
