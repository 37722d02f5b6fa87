//! Tasks from a shell, with the coordinator in between and no sandbox: they wait in their queue.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use crate::support::{Home, kill, within};
use protocol::{TaskState, submit::NewTask};
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

#[tokio::test]
async fn a_task_waits_for_its_time_and_keeps_its_key_while_it_does() {
    let home = Home::new();
    let _up = home.up().await;
    let repo = home.repo("sample").await;
    let commit = home.git(&repo, &["rev-parse", "HEAD"]).await;
    let send = ["send", "--base", commit.trim(), "--unique", "nightly", "sample", "x"];
    let first = [&send[..], &["--id", "first", "--not-before", "2h", "--priority", "low"]].concat();
    home.cli(&first).await.ok();
    home.reaches("first", TaskState::Scheduled).await;
    let polled = home.cli(&["poll", "first"]).await;
    assert!(polled.out.contains("state: scheduled\n"), "{polled:?}");
    assert!(
        polled.out.contains("\nnot_before: 2") && polled.out.contains("\nunique_key: nightly\n"),
        "{polled:?}"
    );
    let task: serde_json::Value =
        serde_json::from_str(&home.cli(&["poll", "--json", "first"]).await.out).unwrap();
    assert_eq!(task["priority"], "low");

    let second = home.cli(&[&send[..], &["--id", "second"]].concat()).await;
    assert_eq!(second.code, Some(6), "{second:?}");
    assert!(second.err.contains("task first has the key"), "{second:?}");
    assert!(second.err.contains("code-workers poll first"), "{second:?}");
    home.cli(&["cancel", "first"]).await.ok();
    home.cli(&[&send[..], &["--id", "second"]].concat()).await.ok();
    let retried = home.cli(&["retry", "first"]).await;
    assert_eq!(retried.code, Some(6), "{retried:?}");
    assert!(retried.err.contains("code-workers poll second"), "{retried:?}");
}

#[tokio::test]
async fn a_list_goes_over_as_many_pages_as_there_are() {
    let home = Home::new();
    let _up = home.up().await;
    let repo = home.repo("sample").await;
    let commit = home.git(&repo, &["rev-parse", "HEAD"]).await.trim().to_owned();
    let owner = home.owner();
    let many = protocol::limits::PAGE_ROWS as usize + 1;
    let sent = (0..many).map(|_| {
        let (owner, base) = (owner.clone(), Some(commit.clone()));
        async move {
            let (queue, prompt) = ("sample".to_owned(), Some("x".to_owned()));
            let task = NewTask { queue, prompt, base, ..NewTask::default() };
            owner.submit(&task, Duration::ZERO).await.unwrap();
        }
    });
    within(futures_util::future::join_all(sent)).await;
    let ids = |listed: String| -> BTreeSet<String> {
        listed.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    let all = home.cli(&["list", "--all"]).await.ok();
    assert_eq!((all.lines().count(), ids(all).len()), (many, many));
    assert_eq!(ids(home.cli(&["list"]).await.ok()).len(), 20);
    assert_eq!(home.cli(&["list", "--all", "--state", "succeeded"]).await.ok(), "");
    assert_eq!(home.cli(&["list", "--all", "--queue", "other"]).await.ok(), "");
}
