//! The program: its arguments, what it tells, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::process::Stdio;

use relay::Address;
use rustix::process::{Pid, Signal, kill_process};
use support::{Behind, dial, echo, front, round_trip, soon};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

fn relay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_code-workers-relay"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

/// Waits for the line that tells where it listens.
async fn address_of(child: &mut Child) -> Address {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let line = soon(lines.next_line()).await.unwrap().expect("it told no address");
    line.strip_prefix("listening on ").unwrap().parse().unwrap()
}

#[tokio::test]
async fn it_tells_its_port_relays_and_ends_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let behind = Behind::start("unix", folder.path()).await;
    let target = behind.address().to_string();
    let mut child = relay(&["--listen", "tcp://127.0.0.1:0", "--dial", &target]).spawn().unwrap();
    let mut client = dial(&address_of(&mut child).await).await;
    tokio::spawn(echo(soon(behind.accept()).await));
    round_trip(&mut client).await;
    drop(client);

    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn it_ends_with_its_standard_input_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("front.sock");
    let listen = format!("unix://{}", socket.display());
    let arguments = ["--listen", &listen, "--dial", "tcp://127.0.0.1:1", "--exit-with-stdin"];
    let mut child = relay(&arguments).spawn().unwrap();
    address_of(&mut child).await;
    assert!(child.try_wait().unwrap().is_none());
    drop(child.stdin.take());
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(0));
    assert!(!socket.exists(), "the socket was left behind");
}

#[tokio::test]
async fn every_bad_argument_is_named() {
    let arguments = "--listen tcp://0.0.0.0:1 --dial http://x --max-connections 0 --mode 9 --idle-timeout 1h \
                     --max-lifetime 1.5";
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    let output = soon(relay(&arguments).output()).await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{told}");
    for fault in [
        "--listen: will not listen on tcp://0.0.0.0:1",
        "--dial: ",
        "--max-connections: ",
        "--mode: ",
        "--idle-timeout: \"1h\" is not a number of seconds",
        "--max-lifetime: ",
    ] {
        assert!(told.contains(fault), "{fault} is missing in {told}");
    }
    assert!(output.stdout.is_empty());

    let output = soon(relay(&["--dial", "tcp://127.0.0.1:1"]).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(64));
}

#[tokio::test]
async fn on_a_network_of_its_own_it_listens_for_others() {
    let arguments = ["--listen", "tcp://0.0.0.0:0", "--dial", "tcp://127.0.0.1:1", "--own-network"];
    let mut child = relay(&arguments).spawn().unwrap();
    assert!(matches!(address_of(&mut child).await, Address::Tcp { host, .. } if host == "0.0.0.0"));
}

#[tokio::test]
async fn it_does_not_dial_itself() {
    let address = "unix:///tmp/itself.sock";
    let output = soon(relay(&["--listen", address, "--dial", address]).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(64));
}

#[tokio::test]
async fn a_socket_that_is_in_use_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let live = front("unix", folder.path());
    let listen = live.address().to_string();
    let output = soon(relay(&["--listen", &listen, "--dial", "tcp://127.0.0.1:1"]).output()).await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("another program listens there"), "{told}");
}
