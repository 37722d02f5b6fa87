//! What ended long ago goes, and nothing else. Time is a parameter.

use coordinator::{
    config::{Days, Retention},
    queue::{Incoming, Kind, Reported},
    retention::Sweeper,
};
use jiff::SignedDuration;
use protocol::{Code, TaskState, folders::Folders, keys::FirstTask, report::Outcome, submit::NewTask};
use tokio_util::sync::CancellationToken;

use crate::{
    house::{folders, id, named, report},
    time::Bench,
};

/// A finished task `t` with output and an artifact, a held one, and one that is ready.
async fn with_a_past() -> (Bench, Folders) {
    let bench = Bench::open().await;
    let folders = folders(bench.base());
    let claim = bench.run(named("t")).await;
    let done = Reported { id: id("t"), claim, report: report(Outcome::Succeeded), usage: None };
    bench.queue.finish(done, bench.clock.now()).await.unwrap();
    bench.submit(named("ready")).await;
    bench.submit(NewTask { approval: true, ..named("held") }).await;
    for task in ["t", "ready", "held"] {
        std::fs::write(folders.output().join(task), "said\n").unwrap();
        std::fs::create_dir_all(folders.artifacts(&id(task))).unwrap();
        std::fs::write(folders.artifacts(&id(task)).join("log"), "log").unwrap();
    }
    (bench, folders)
}

async fn sweep(bench: &Bench, folders: &Folders, retention: [u32; 3], days: i64) {
    let [tasks, output, artifacts] = retention.map(Days);
    let sweeper = Sweeper {
        queue: bench.queue.clone(),
        folders: folders.clone(),
        retention: Retention { tasks, output, artifacts },
    };
    let now = bench.clock.now() + SignedDuration::from_hours(24 * days);
    sweeper.sweep(now, &CancellationToken::new()).await.unwrap();
}

fn there(folders: &Folders, task: &str) -> (bool, bool) {
    (folders.output().join(task).exists(), folders.artifacts(&id(task)).exists())
}

#[tokio::test]
async fn files_go_first_then_tasks_and_live_tasks_never() {
    let (bench, folders) = with_a_past().await;
    sweep(&bench, &folders, [90, 30, 60], 29).await;
    assert_eq!(there(&folders, "t"), (true, true), "not before its time");
    sweep(&bench, &folders, [90, 30, 60], 31).await;
    assert_eq!(there(&folders, "t"), (false, true));
    assert!(bench.queue.swept(Kind::Artifacts).unwrap().is_none());
    sweep(&bench, &folders, [90, 30, 60], 61).await;
    assert_eq!(there(&folders, "t"), (false, false));
    assert_eq!(bench.queue.task(&id("t")).unwrap().unwrap().state, TaskState::Succeeded);
    sweep(&bench, &folders, [90, 30, 60], 91).await;
    assert!(bench.queue.task(&id("t")).unwrap().is_none());
    for live in ["ready", "held"] {
        assert_eq!(there(&folders, live), (true, true), "{live}");
        assert!(bench.queue.task(&id(live)).unwrap().is_some());
    }
    bench.submit(named("t")).await;
    assert_eq!(bench.queue.task(&id("t")).unwrap().unwrap().state, TaskState::Ready, "its id is free again");
}

#[tokio::test]
async fn nothing_goes_where_everything_is_kept() {
    let (bench, folders) = with_a_past().await;
    sweep(&bench, &folders, [0, 0, 0], 10_000).await;
    assert_eq!(there(&folders, "t"), (true, true));
    sweep(&bench, &folders, [1, 0, 0], 2).await;
    assert_eq!(there(&folders, "t"), (false, false), "with the task at the latest");
    assert!(bench.queue.task(&id("t")).unwrap().is_none());
}

#[tokio::test]
async fn a_result_that_another_task_waits_to_start_from_stays() {
    let (bench, folders) = with_a_past().await;
    bench.submit(NewTask { base: Some("code-workers/t".to_owned()), ..named("next") }).await;
    sweep(&bench, &folders, [1, 1, 1], 2).await;
    assert_eq!(there(&folders, "t"), (true, true));
    assert!(bench.queue.task(&id("t")).unwrap().is_some());
}

#[tokio::test]
async fn a_task_under_the_id_of_a_forgotten_one_has_another_lease_and_another_account() {
    let bench = Bench::open().await;
    let old = bench.run(named("t")).await;
    let done = Reported { id: id("t"), claim: old, report: report(Outcome::Succeeded), usage: None };
    bench.queue.finish(done.clone(), bench.clock.now()).await.unwrap();
    bench.queue.repeat(id("t"), id("retry"), bench.clock.now()).await.unwrap();
    assert_eq!(bench.lease_at_once().await.unwrap().task.id, id("retry"));
    let (before, retry) = (bench.queue.payer(&id("t")).unwrap(), bench.queue.payer(&id("retry")).unwrap());
    assert_eq!(retry.first.unwrap(), FirstTask { task: id("t"), born: before.born });
    bench.queue.forget(vec![id("t")]).await.unwrap();
    let sent = serde_json::to_vec(&named("t")).unwrap();
    let again = Incoming::new(named("t").check().unwrap(), &sent);
    let later = bench.clock.now() + SignedDuration::from_secs(1);
    bench.queue.submit(vec![again], protocol::Usd::ZERO, later).await.unwrap();
    let leased = bench.lease_at_once().await.unwrap();
    let new = bench.queue.tokens().claim(&id("t"), leased.lease.attempt, leased.lease.token.expose());
    assert_eq!((old.attempt, new.attempt), (1, 1));
    assert_ne!(bench.queue.payer(&id("t")).unwrap().born, before.born);
    assert_eq!(bench.queue.payer(&id("retry")).unwrap().first, None, "this is not what was tried again");
    bench.queue.start(&id("t"), new, later).await.unwrap();
    let late = bench.queue.finish(done, later).await;
    assert_eq!(protocol::Problem::from(late.unwrap_err()).code, Code::LeaseLost);
}
