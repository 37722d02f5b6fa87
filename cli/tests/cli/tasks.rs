//! Tasks from a shell, with the coordinator in between and no sandbox: they wait in their queue.

use std::process::Stdio;

use crate::support::{Home, kill, within};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::test]
async fn repositories_come_and_go() {
    let home = Home::new();
    let _up = home.up().await;
    let folder = home.repo("sample").await.canonicalize().unwrap();
    let listed = home.cli(&["repo", "list"]).await.ok();
    assert_eq!(listed, format!("sample  {}\n", folder.display()), "a relative path became absolute");
    assert_eq!(home.cli(&["repo", "add", "other", "/nowhere"]).await.code, Some(6));
    assert_eq!(home.cli(&["repo", "add", "a/b", "sample"]).await.code, Some(6));
    home.cli(&["repo", "remove", "sample"]).await.ok();
    assert_eq!(home.cli(&["repo", "list"]).await.ok(), "");
    assert_eq!(home.cli(&["repo", "remove", "sample"]).await.code, Some(6));
}

#[tokio::test]
async fn a_task_is_sent_polled_listed_and_cancelled() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    let id = home.cli(&["send", "sample", "fix it"]).await.ok().trim_end().to_owned();
    let polled = home.cli(&["poll", &id]).await;
    assert_eq!(polled.code, Some(7), "{polled:?}");
    assert!(polled.out.starts_with(&format!("id: {id}\nrepository: sample\nstate: ")), "{polled:?}");
    let listed = home.cli(&["list", "--queue", "sample"]).await.ok();
    assert!(listed.starts_with(&id) && listed.ends_with("fix it\n"), "{listed}");
    assert_eq!(home.cli(&["list", "--state", "failed"]).await.ok(), "");
    assert_eq!(home.cli(&["diff", &id]).await.code, Some(7));

    home.cli(&["cancel", &id]).await.ok();
    assert_eq!(home.cli(&["poll", &id]).await.code, Some(4));
    assert_eq!(home.cli(&["cancel", &id]).await.code, Some(6));
    let logs = home.cli(&["logs", "-f", &id]).await.ok();
    assert!(logs.trim_end().ends_with("== cancelled"), "{logs}");
    assert_eq!(home.cli(&["diff", &id]).await.code, Some(1));
}

#[tokio::test]
async fn a_repeated_id_makes_one_task() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    for _ in 0..2 {
        assert_eq!(home.cli(&["send", "--id", "one", "sample", "x"]).await.ok(), "one\n");
    }
    assert_eq!(home.cli(&["list", "--json"]).await.ok().lines().count(), 1);
    let taken = home.cli(&["send", "--id", "one", "sample", "y"]).await;
    assert_eq!(taken.code, Some(6), "{taken:?}");
}

#[tokio::test]
async fn a_prompt_on_stdin_arrives_as_it_is() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    let prompt = "- it's \"x\" $HOME `ls` \\ %s\n\té 漢\n\n";
    home.cli_with(&["send", "--id", "p", "sample", "-"], prompt.as_bytes()).await.ok();
    let task: serde_json::Value =
        serde_json::from_str(&home.cli(&["poll", "--json", "p"]).await.out).unwrap();
    assert_eq!(task["prompt"], prompt);
    let bytes = home.cli_with(&["send", "sample", "-"], b"\xff").await;
    assert_eq!(bytes.code, Some(2), "{bytes:?}");
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_code() {
    let mut home = Home::new();
    let gone = home.cli(&["list"]).await;
    assert_eq!(gone.code, Some(5), "{gone:?}");
    assert!(gone.err.contains("not reachable") && gone.err.contains("code-workers up"), "{gone:?}");
    let _up = home.up().await;
    home.repo("sample").await;
    let nul = home.cli_with(&["send", "sample", "-"], b"a\0b").await;
    for (ran, says) in [
        (nul, "NUL"),
        (home.cli(&["send", "unknown", "x"]).await, "unknown"),
        (home.cli(&["send", "a b", "x"]).await, "a b"),
        (home.cli(&["send", "sample", ""]).await, "prompt"),
        (home.cli(&["send", "--id", "lease", "sample", "x"]).await, "reserved"),
        (home.cli(&["poll", "none"]).await, "none"),
    ] {
        assert_eq!(ran.code, Some(6), "{ran:?}");
        assert!(ran.err.contains(says), "{ran:?}");
    }
    for usage in [&["poll", "a/b"][..], &["send", "sample"], &["send", "sample", "a", "b"]] {
        assert_eq!(home.cli(usage).await.code, Some(2), "{usage:?}");
    }
    home.set("FORTRESS_API_KEY", "another");
    let wrong = home.cli(&["list"]).await;
    assert_eq!(wrong.code, Some(6), "{wrong:?}");
    assert!(wrong.err.contains("FORTRESS_API_KEY"), "{wrong:?}");
}

#[tokio::test]
async fn ctrl_c_leaves_the_task_and_says_how_to_go_on() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    let mut send = home.command(env!("CARGO_BIN_EXE_code-workers"));
    send.args(["send", "--wait", "--id", "t", "sample", "x"]);
    let mut send = send.stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(send.stderr.take().unwrap()).lines();
    assert!(within(lines.next_line()).await.unwrap().unwrap().contains("t is sent"));
    kill(send.id().unwrap(), Signal::INT);
    let told = within(lines.next_line()).await.unwrap().unwrap();
    assert!(told.contains("goes on"), "{told}");
    assert_eq!(within(send.wait()).await.unwrap().code(), Some(7));
    assert_eq!(home.cli(&["poll", "t"]).await.code, Some(7));
}
