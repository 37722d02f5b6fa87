//! What comes back: outcomes, patches and branches. The test is the worker.

use std::fs;

use protocol::{
    event::{EventBody, NewEvent, NewEvents},
    report::{Outcome, Report},
};

use crate::{
    support::Home,
    worker::{SCRIPT, report, started, take, upload},
};

#[tokio::test]
async fn each_outcome_has_its_code_in_every_command() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    for (id, outcome, code) in
        [("good", Outcome::Succeeded, 0), ("bad", Outcome::Failed, 1), ("slow", Outcome::TimedOut, 3)]
    {
        let task = started(&home, id).await;
        task.result(&report(outcome, "last words\n\x1b[2J\n\n", Vec::new())).await.unwrap();
        let poll = home.cli(&["poll", id]).await;
        assert_eq!(poll.code, Some(code), "{poll:?}");
        let again = ["send", "--wait", "--id", id, "--exec", "sample", "--", "sh", "-c", SCRIPT];
        let sent = home.cli(&again).await;
        assert_eq!((sent.code, sent.out.as_str()), (Some(code), "last words\n\x1b[2J\n"), "{sent:?}");
        assert_eq!(sent.err.contains("because: it did not"), code != 0, "{sent:?}");
        let polled = home.script("poll_task.sh", &[id], b"").await;
        assert_eq!(polled.code, Some(code), "{polled:?}");
        assert!(polled.out.contains("\n\nlast words\n"), "{polled:?}");
        assert!(
            polled.out.contains(&format!("exit_code: {}\n", if code == 0 { 0 } else { 3 })),
            "{polled:?}"
        );
    }
}

#[tokio::test]
async fn a_waiting_script_prints_the_last_words() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    let worker = async {
        let task = take(&home).await;
        task.result(&report(Outcome::Succeeded, "one\n\nstate: failed\n", Vec::new())).await.unwrap();
    };
    let arguments = ["--wait", "--id", "t", "sample", "do it"];
    let ((), sent) = tokio::join!(worker, home.script("send_task.sh", &arguments, b""));
    assert_eq!((sent.code, sent.out.as_str()), (Some(0), "t\none\n\nstate: failed\n"), "{sent:?}");
    assert!(sent.err.contains("state: succeeded"), "{sent:?}");
}

#[tokio::test]
async fn logs_show_what_happened() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    let task = started(&home, "t").await;
    let output = |text: &str| NewEvent {
        at: jiff::Timestamp::now(),
        body: EventBody::Output { stream: "stdout".to_owned(), text: text.to_owned() },
        raw: None,
    };
    task.events(&NewEvents { first: 0, events: vec![output("hi"), output("\x1b]0;x\x07")] }).await.unwrap();
    let so_far = home.cli(&["logs", "t"]).await.ok();
    assert!(so_far.contains("== running") && so_far.contains("  hi\n"), "{so_far}");
    assert!(!so_far.contains('\x1b'), "{so_far:?}");

    let end = async { task.result(&report(Outcome::Succeeded, "", Vec::new())).await.unwrap() };
    let (followed, _) = tokio::join!(home.cli(&["logs", "-f", "t"]), end);
    assert!(followed.ok().trim_end().ends_with("== succeeded"));
    for line in home.cli(&["logs", "--json", "t"]).await.ok().lines() {
        serde_json::from_str::<protocol::Event>(line).unwrap();
    }
}

#[tokio::test]
async fn a_result_is_shown_and_applied_with_and_without_the_coordinator() {
    let home = Home::new();
    let up = home.up().await;
    let repo = home.repo("sample").await;
    let work = home.path().join("work");
    home.git(home.path(), &["clone", "-q", "sample", "work"]).await;
    home.git(&work, &["switch", "-qc", "code-workers/t"]).await;
    fs::write(work.join("a.txt"), "b\n").unwrap();
    home.git(&work, &["commit", "-qam", "second"]).await;
    let head = home.git(&work, &["rev-parse", "HEAD"]).await.trim().to_owned();
    home.git(&work, &["bundle", "create", "-q", "b", "main..code-workers/t"]).await;
    fs::write(work.join("p"), home.git(&work, &["diff", "main"]).await).unwrap();

    let task = started(&home, "t").await;
    let artifacts =
        vec![upload(&task, "patch", &work.join("p")).await, upload(&task, "bundle", &work.join("b")).await];
    let report = Report { head: Some(head.clone()), ..report(Outcome::Succeeded, "", artifacts) };
    task.result(&report).await.unwrap();

    assert_eq!(home.cli(&["diff", "t"]).await.ok(), fs::read_to_string(work.join("p")).unwrap());
    // The home folder is in no repository, so it goes into the task's own.
    let applied = home.cli(&["apply", "t"]).await.ok();
    let branch = "code-workers/t";
    assert!(applied.contains(&format!("{branch} is now in {}", repo.display())), "{applied}");
    assert!(applied.contains(&format!("merge {branch}")), "{applied}");
    assert_eq!(home.git(&repo, &["rev-parse", branch]).await.trim(), head);
    assert_eq!(fs::read_to_string(repo.join("a.txt")).unwrap(), "a\n");

    home.git(&repo, &["init", "-q", "../foreign"]).await;
    let foreign = home.cli(&["apply", "t", "--into", "foreign"]).await;
    assert_eq!(foreign.code, Some(1), "{foreign:?}");
    assert!(foreign.err.contains("--into"), "{foreign:?}");

    drop(up);
    home.git(home.path(), &["clone", "-q", "--branch", "main", "sample", "clone"]).await;
    let applied = home.cli(&["apply", "t", "--into", "clone"]).await;
    assert!(applied.err.contains("not reachable"), "{applied:?}");
    applied.ok();
    assert_eq!(home.git(&home.path().join("clone"), &["rev-parse", branch]).await.trim(), head);
}
