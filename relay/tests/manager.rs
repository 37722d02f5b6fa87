//! The program under a service manager, and its word on a signal.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::os::fd::OwnedFd;
use std::process::Stdio;

use relay::Address;
use rustix::process::{Pid, Signal, kill_process};
use support::{Behind, dial, echo, round_trip, soon};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_code-workers-relay");

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

async fn address_of(child: &mut Child) -> Address {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let line = soon(lines.next_line()).await.unwrap().expect("it told no address");
    line.strip_prefix("listening on ").unwrap().parse().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[tokio::test]
async fn the_manager_hears_of_readiness_of_life_and_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["--listen", "tcp://127.0.0.1:0", "--dial", "tcp://127.0.0.1:1"]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "100000");
    let mut child = start(&mut command);
    let mut heard = Vec::new();
    let mut hear = async |wanted: &str| loop {
        let mut said = [0; 64];
        let read = soon(manager.recv(&mut said)).await.unwrap();
        let said = String::from_utf8_lossy(&said[..read]).trim().to_owned();
        let found = said == wanted;
        heard.push(said);
        if found {
            break heard.len();
        }
    };
    assert_eq!(hear("READY=1").await, 1, "it is ready before all else");
    hear("WATCHDOG=1").await;
    hear("WATCHDOG=1").await;
    signal(&child, Signal::TERM);
    hear("STOPPING=1").await;
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn what_it_has_done_is_one_line_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let behind = Behind::start("unix", folder.path()).await;
    let target = behind.address().to_string();
    let mut command = Command::new(PROGRAM);
    let mut child = start(command.args(["--listen", "tcp://127.0.0.1:0", "--dial", &target]));
    let mut client = dial(&address_of(&mut child).await).await;
    tokio::spawn(echo(soon(behind.accept()).await));
    round_trip(&mut client).await;
    signal(&child, Signal::USR1);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = soon(lines.next_line()).await.unwrap().unwrap();
    let told = "open=1 accepted=1 refused=0 bytes_sent=1 bytes_received=1 cut_idle=0 cut_lifetime=0 errors=0";
    assert!(line.ends_with(told), "{line}");
}

/// Starts the program with a socket handed over as descriptor 3, as the manager does it.
fn activated(socket: OwnedFd, target: &str) -> Child {
    let script =
        "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" --listen systemd --dial \"$1\" 3<&0 </dev/null";
    start(Command::new("sh").args(["-c", script, PROGRAM, target]).stdin(socket))
}

#[tokio::test]
async fn a_socket_that_is_handed_over_is_served_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let behind = Behind::start("unix", folder.path()).await;
    let target = behind.address().to_string();
    let path = folder.path().join("handed.sock");
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for socket in [OwnedFd::from(unix), OwnedFd::from(tcp)] {
        let mut child = activated(socket, &target);
        let mut client = dial(&address_of(&mut child).await).await;
        tokio::spawn(echo(soon(behind.accept()).await));
        round_trip(&mut client).await;
        drop(client);
        signal(&child, Signal::TERM);
        assert_eq!(soon(child.wait()).await.unwrap().code(), Some(0));
    }
    assert!(path.exists(), "the file is its maker's");
}

#[tokio::test]
async fn a_socket_that_must_not_be_listened_on_is_refused_when_handed_over_too() {
    let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let (connected, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    for (socket, why) in [
        (OwnedFd::from(open), "only loopback is allowed"),
        (OwnedFd::from(connected), "does not listen for streams"),
        (OwnedFd::from(std::fs::File::open("/dev/null").unwrap()), "is not a socket"),
    ] {
        let output = soon(activated(socket, "tcp://127.0.0.1:1").wait_with_output()).await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(why), "{told}");
    }
}

#[tokio::test]
async fn without_a_socket_the_remedy_is_told() {
    let mut command = Command::new(PROGRAM);
    command.args(["--listen", "systemd", "--dial", "tcp://127.0.0.1:1"]).env_remove("LISTEN_FDS");
    let output = soon(command.output()).await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && told.contains("start the socket unit"), "{told}");
}
