//! The cap, restarts behind the relay, its end, and the files of its sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use relay::listen::ListenError;
use relay::{Address, Limits, Listener};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use support::{Behind, Relay, dial, echo, front, round_trip, soon, unix};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

/// Echoes on every connection, and counts them.
fn serve(behind: Behind) -> (Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let task = tokio::spawn(async move {
        loop {
            let connection = behind.accept().await;
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(echo(connection));
        }
    });
    (accepted, task)
}

#[tokio::test]
async fn whoever_is_over_the_cap_waits_and_is_not_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let behind = Behind::start("unix", folder.path()).await;
    let front = front("tcp", folder.path());
    let limits = Limits { max_connections: NonZeroUsize::new(2).unwrap(), ..Limits::default() };
    let relay = Relay::start(front, behind.address(), limits);
    let (accepted, _task) = serve(behind);

    let (mut first, mut second) = (dial(&relay.address).await, dial(&relay.address).await);
    round_trip(&mut first).await;
    round_trip(&mut second).await;
    let mut third = dial(&relay.address).await;
    for _ in 0..100 {
        round_trip(&mut first).await;
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
    drop(second);
    round_trip(&mut third).await;
    assert_eq!(accepted.load(Ordering::SeqCst), 3);
}

/// A unix listener whose queue holds one connection.
fn short_queue(path: &Path) -> UnixListener {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true).unwrap();
    UnixListener::from_std(listener).unwrap()
}

#[tokio::test]
async fn a_full_queue_behind_the_relay_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peer.sock");
    let behind = short_queue(&path);
    let front = front("tcp", folder.path());
    let relay = Relay::start(front, Address::Unix(path), Limits::default());
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(dial(&relay.address).await);
    }
    // The relay tries them all before anyone accepts.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    tokio::spawn(async move {
        loop {
            tokio::spawn(echo(behind.accept().await.unwrap().0));
        }
    });
    for client in &mut clients {
        round_trip(client).await;
    }
}

#[tokio::test]
async fn the_dialled_program_may_restart() {
    let folder = tempfile::tempdir().unwrap();
    let behind = Behind::start("unix", folder.path()).await;
    let address = behind.address();
    let front = front("tcp", folder.path());
    let relay = Relay::start(front, address, Limits::default());
    let (_, serving) = serve(behind);
    round_trip(&mut dial(&relay.address).await).await;

    serving.abort();
    let _ = serving.await;
    let mut refused = dial(&relay.address).await;
    let read = soon(refused.read(&mut [0; 8])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");

    let _serving = serve(Behind::start("unix", folder.path()).await);
    round_trip(&mut dial(&relay.address).await).await;
}

#[tokio::test]
async fn shutdown_accepts_no_more_and_lets_running_ones_finish() {
    let folder = tempfile::tempdir().unwrap();
    let behind = Behind::start("tcp", folder.path()).await;
    let front = front("unix", folder.path());
    let relay = Relay::start(front, behind.address(), Limits::default());
    let _serving = serve(behind);
    let mut client = dial(&relay.address).await;
    round_trip(&mut client).await;

    relay.shutdown.cancel();
    let socket = folder.path().join("front.sock");
    soon(async {
        while socket.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    round_trip(&mut client).await;
    assert!(!relay.task.is_finished());
    client.shutdown().await.unwrap();
    assert_eq!(soon(client.read(&mut [0; 8])).await.unwrap(), 0);
    soon(relay.task).await.unwrap();
}

#[tokio::test]
async fn what_does_not_end_after_shutdown_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let behind = Behind::start("tcp", folder.path()).await;
    let front = front("tcp", folder.path());
    let limits = Limits { drain: Duration::from_millis(20), ..Limits::default() };
    let relay = Relay::start(front, behind.address(), limits);
    let _serving = serve(behind);
    let mut client = dial(&relay.address).await;
    round_trip(&mut client).await;

    relay.shutdown.cancel();
    let read = soon(client.read(&mut [0; 8])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    soon(relay.task).await.unwrap();
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let address = unix(folder.path(), "front");
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("front.sock")).unwrap());
    let live = Listener::bind(&address, 0o600).unwrap();

    let refused = Listener::bind(&address, 0o600).unwrap_err();
    assert!(matches!(refused, ListenError::InUse(_)), "{refused}");
    let (accepted, connected) = tokio::join!(live.accept(), async { dial(address.get()).await });
    accepted.unwrap();
    drop(connected);
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("front.sock");
    std::fs::write(&path, "precious").unwrap();
    let refused = Listener::bind(&unix(folder.path(), "front"), 0o600).unwrap_err();
    assert!(matches!(refused, ListenError::NotASocket(_)), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");

    let refused = Listener::bind(&unix(&folder.path().join("missing"), "front"), 0o600).unwrap_err();
    assert!(matches!(refused, ListenError::NoFolder { .. }), "{refused}");
}

#[tokio::test]
async fn a_socket_file_has_its_mode_and_goes_with_its_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("front.sock");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let address = unix(folder.path(), "front");

    let listener = Listener::bind(&address, 0o666).unwrap();
    assert_eq!(mode(), 0o666);
    drop(listener);
    assert!(!path.exists());

    let listener = Listener::bind(&address, 0o600).unwrap();
    assert_eq!(mode(), 0o600);
    std::fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists(), "another program's socket was removed");
}

#[tokio::test]
async fn a_path_longer_than_the_system_takes_is_listened_to_and_dialled() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("a".repeat(120)).join("b".repeat(120));
    std::fs::create_dir_all(&folder).unwrap();
    let address = format!("unix://{}", folder.join("door.sock").display());
    let door = Listener::bind(&address.parse().unwrap(), 0o600).unwrap();
    let behind = Behind::start("tcp", scratch.path()).await;
    let second = Relay::start(door, behind.address(), Limits::default());
    let first = Relay::start(front("tcp", scratch.path()), second.address.clone(), Limits::default());
    let _serving = serve(behind);
    round_trip(&mut dial(&first.address).await).await;
    second.shutdown.cancel();
    soon(second.task).await.unwrap();
    assert!(!folder.join("door.sock").exists(), "the file goes with its listener");
}
