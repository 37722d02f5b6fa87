//! The program: its arguments, what it tells, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::process::Stdio;

use serde_json::json;
use support::soon;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_code-workers-recorded-model"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn it_tells_its_port_and_plays_a_json_file() {
    let folder = tempfile::tempdir().unwrap();
    let turns = folder.path().join("turns.json");
    std::fs::write(&turns, r#"{"turn": [{"text": "hello"}]}"#).unwrap();
    let arguments = ["--listen", "127.0.0.1:0", "--turns", turns.to_str().unwrap()];
    let mut child = program(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let line = soon(lines.next_line()).await.unwrap().unwrap();
    let address = line.strip_prefix("listening on ").unwrap();
    let body = json!({"model": "m", "messages": []});
    let sent = reqwest::Client::new().post(format!("http://{address}/v1/messages")).json(&body).send();
    let answer: serde_json::Value = soon(sent).await.unwrap().json().await.unwrap();
    assert_eq!(answer["content"][0]["text"], "hello");
}

#[tokio::test]
async fn every_fault_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let turns = folder.path().join("turns.toml");
    std::fs::write(&turns, "[[turn]]\n[[turn]]\ntext='a'\nstatus=99").unwrap();
    let log = folder.path().join("missing/log");
    let arguments =
        ["--listen", "0.0.0.0:0", "--turns", turns.to_str().unwrap(), "--log", log.to_str().unwrap()];
    let output = soon(program(&arguments).output()).await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{told}");
    for fault in ["0.0.0.0:0 is not a loopback", "turn 1: ", "turn 2: ", "cannot open the log"] {
        assert!(told.contains(fault), "{fault} is missing in {told}");
    }
    assert_eq!(soon(program(&[]).output()).await.unwrap().status.code(), Some(64));
}
