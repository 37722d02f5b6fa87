//! Queues that pause, drain and have limits.

use protocol::{TaskState, lease::LeaseQuery};
use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::{
    support::{Home, kill, within},
    worker::take,
};

/// Sends a task, and waits until workers may have it.
async fn send_ready(home: &Home, id: &str) {
    home.cli(&["send", "--id", id, "sample", "x"]).await.ok();
    home.reaches(id, TaskState::Ready).await;
}

/// Whether a worker that asks gets a task at once.
async fn hands_out(home: &Home) -> bool {
    let query = LeaseQuery { request_id: uuid::Uuid::new_v4(), wait: 0 };
    home.worker("sample").await.lease(&"sample".parse().unwrap(), &query).await.unwrap().is_some()
}

/// Starts `drain --wait`; it has said its first line, which is given back.
async fn drain(home: &Home) -> (Child, Lines<BufReader<ChildStdout>>, String) {
    let mut drain = home.command(env!("CARGO_BIN_EXE_code-workers"));
    let mut drain = drain.args(["drain", "--wait", "sample"]).spawn().unwrap();
    let mut lines = BufReader::new(drain.stdout.take().unwrap()).lines();
    let first = within(lines.next_line()).await.unwrap().unwrap();
    (drain, lines, first)
}

#[tokio::test]
async fn a_paused_queue_hands_out_nothing_until_it_is_resumed() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    home.repo("other").await;
    assert_eq!(home.cli(&["pause", "sample"]).await.ok(), "sample is paused: no task is unfinished\n");
    send_ready(&home, "t").await;
    assert!(!hands_out(&home).await);
    let table = home.cli(&["queue"]).await.ok();
    let wanted = "\
        QUEUE   MODE    LIMIT  HELD  SCHEDULED  READY  LEASED  RUNNING\n\
        other   open        -     0          0      0       0        0\n\
        sample  paused      -     0          0      1       0        0\n";
    assert_eq!(table, wanted);
    assert_eq!(home.cli(&["resume", "sample"]).await.ok(), "sample is open: 1 unfinished (1 ready)\n");
    assert!(hands_out(&home).await);
}

#[tokio::test]
async fn a_queue_has_a_limit_until_it_is_taken_off() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    send_ready(&home, "a").await;
    send_ready(&home, "b").await;
    let limited = home.cli(&["queue", "sample", "--max-running", "1"]).await.ok();
    assert_eq!(limited, "sample is open, at most 1 at once: 2 unfinished (2 ready)\n");
    take(&home).await;
    assert!(!hands_out(&home).await);
    let row = home.cli(&["queue", "sample"]).await.ok();
    assert_eq!(row.lines().nth(1), Some("sample  open      1     0          0      1       0        1"));
    home.cli(&["queue", "sample", "--max-running", "0"]).await.ok();
    assert!(hands_out(&home).await);
}

#[tokio::test]
async fn a_draining_queue_takes_nothing_in_and_tells_when_it_is_empty() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    for id in ["a", "b", "ended"] {
        send_ready(&home, id).await;
    }
    home.cli(&["cancel", "ended"]).await.ok();
    let (mut drain, mut lines, first) = drain(&home).await;
    assert_eq!(first, "sample is draining: 2 unfinished (2 ready)");
    for refused in [&["send", "sample", "x"][..], &["retry", "ended"]] {
        let refused = home.cli(refused).await;
        assert_eq!(refused.code, Some(6), "{refused:?}");
        assert!(refused.err.contains("code-workers resume sample"), "{refused:?}");
    }
    for (id, wanted) in [("a", "sample: 1 unfinished (1 ready)"), ("b", "sample: no task is unfinished")] {
        home.cli(&["cancel", id]).await.ok();
        assert_eq!(within(lines.next_line()).await.unwrap().as_deref(), Some(wanted));
    }
    assert_eq!(within(drain.wait()).await.unwrap().code(), Some(0));
    assert_eq!(
        home.cli(&["drain", "sample", "--wait"]).await.ok(),
        "sample is draining: no task is unfinished\n"
    );
    home.cli(&["resume", "sample"]).await.ok();
    home.cli(&["send", "sample", "x"]).await.ok();
}

#[tokio::test]
async fn waiting_for_a_drain_ends_early_where_it_is_interrupted_or_the_queue_opens() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    send_ready(&home, "t").await;
    let (child, _lines, _) = drain(&home).await;
    kill(child.id().unwrap(), Signal::INT);
    let ended = within(child.wait_with_output()).await.unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(7), "{told}");
    assert!(told.contains("goes on draining") && told.contains("code-workers resume sample"), "{told}");

    let (child, _lines, _) = drain(&home).await;
    home.cli(&["resume", "sample"]).await.ok();
    let ended = within(child.wait_with_output()).await.unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("set to open"), "{told}");
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_refused() {
    let home = Home::new();
    let _up = home.up().await;
    for command in [
        &["pause", "none"][..],
        &["resume", "none"],
        &["drain", "none", "--wait"],
        &["queue", "none"],
        &["queue", "none", "--max-running", "1"],
    ] {
        let refused = home.cli(command).await;
        assert_eq!(refused.code, Some(6), "{refused:?}");
        assert!(refused.err.contains("none") && refused.err.contains("code-workers repo "), "{refused:?}");
    }
}
