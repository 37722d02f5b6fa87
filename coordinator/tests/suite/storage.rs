//! The store: groups, undone operations, damage, and a disk that is full.

use coordinator::queue::{Store, StoreError};
use protocol::{Code, Problem, TaskState, task::TaskFilter};

use crate::house::{House, exec, folders, id, named, open_queue, seed, soon, submit};

#[tokio::test]
async fn concurrent_operations_are_all_done_in_few_commits() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("x.db");
    let commits = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = commits.clone();
    let store = std::sync::Arc::new(
        Store::open(&path, move |_| {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        })
        .unwrap(),
    );
    // The writer is held in its first transaction until all others wait behind it.
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let first = {
        let store = store.clone();
        tokio::spawn(async move {
            let held = store.write(move |_| {
                begun.send(()).unwrap();
                Ok(gate.recv().is_ok())
            });
            held.await
        })
    };
    soon(has_begun).await.unwrap();
    let others: Vec<_> = (0..200)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.write(move |_| Ok(n)).await })
        })
        .collect();
    soon(async {
        while store.waiting() < 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    open.send(()).unwrap();
    assert!(soon(first).await.unwrap().unwrap());
    for (n, other) in others.into_iter().enumerate() {
        assert_eq!(soon(other).await.unwrap().unwrap(), n);
    }
    assert_eq!(commits.load(std::sync::atomic::Ordering::SeqCst), 2, "commits for 201 operations");
}

#[tokio::test]
async fn a_refused_operation_undoes_itself_and_nothing_else() {
    let base = tempfile::tempdir().unwrap();
    let queues = open_queue(&folders(base.path()));
    seed(&queues).await;
    let mixed = [named("a"), exec("nowhere")].map(|task| {
        let sent = serde_json::to_vec(&task).unwrap();
        coordinator::queue::Incoming::new(task.check().unwrap(), &sent)
    });
    let now = coordinator::Clock::start().now();
    let (refused, ()) = tokio::join!(
        queues.submit(mixed.to_vec(), protocol::Usd::ZERO, now),
        submit(&queues, vec![named("b")]),
    );
    assert_eq!(Problem::from(refused.unwrap_err()).code, Code::UnknownRepository);
    assert!(queues.task(&id("a")).unwrap().is_none());
    assert_eq!(queues.task(&id("b")).unwrap().unwrap().state, TaskState::Ready);
}

#[tokio::test]
async fn after_the_close_nothing_is_taken() {
    let base = tempfile::tempdir().unwrap();
    let queues = open_queue(&folders(base.path()));
    seed(&queues).await;
    queues.close();
    let refused = queues
        .cancel(&id("seed-q"), protocol::task::Cancel::default(), coordinator::Clock::start().now())
        .await;
    assert_eq!(Problem::from(refused.unwrap_err()).code, Code::ShuttingDown);
}

#[tokio::test]
async fn a_newer_database_and_a_foreign_file_are_not_touched() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("x.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let Err(StoreError::Storage(why)) = Store::open(&path, |_| ()) else { panic!("it was opened") };
    assert!(why.contains("schema 99"), "{why}");
    let foreign = base.path().join("y.db");
    std::fs::write(
        &foreign,
        "this is a letter, not a database, and it is long enough to be read as one".repeat(9),
    )
    .unwrap();
    assert!(Store::open(&foreign, |_| ()).is_err());
}

#[tokio::test]
async fn a_damaged_row_is_reported_and_the_others_are_served() {
    let mut house = House::open().await;
    house.submit(named("good")).await;
    house.submit(named("bad")).await;
    house.stop().await;
    let database = rusqlite::Connection::open(house.folders.coordinator_db()).unwrap();
    database.execute("UPDATE tasks SET state = 'merry' WHERE id = 'bad'", []).unwrap();
    drop(database);
    let house = house.restart().await;
    let damaged = house.owner.cancel(&id("bad"), &protocol::task::Cancel::default()).await;
    assert_eq!(crate::house::code(damaged), Code::Internal);
    assert_eq!(
        house.owner.cancel(&id("good"), &protocol::task::Cancel::default()).await.unwrap().state,
        TaskState::Cancelled
    );
}

/// One statement behind the coordinator's back, as a flipped bit would be: its row's checksum stays.
async fn told_after(flip: &str) -> (Code, Code) {
    let mut house = House::open().await;
    let (_worker, lease) = house.started("t").await;
    lease.result(&crate::house::report(protocol::report::Outcome::Succeeded)).await.unwrap();
    house.stop().await;
    let database = rusqlite::Connection::open(house.folders.coordinator_db()).unwrap();
    assert!(database.execute(flip, []).unwrap() > 0, "{flip}");
    drop(database);
    let house = house.restart().await;
    let read = house.owner.task(&id("t"), std::time::Duration::ZERO).await;
    let retried = house.owner.retry(&id("t"), &protocol::task::Retry::default()).await;
    let code = |result: Result<protocol::Task, _>| match result {
        Ok(task) => panic!("{flip}: {task:?} was served"),
        Err(error) => crate::house::code::<()>(Err(error)),
    };
    (code(read), code(retried))
}

#[tokio::test]
async fn a_value_that_is_not_what_was_written_is_told_and_never_served() {
    for flip in [
        "UPDATE tasks SET attempt = 2 WHERE id = 't'",
        "UPDATE tasks SET finished_at = finished_at + 1 WHERE id = 't'",
        "UPDATE tasks SET base_commit = replace(base_commit, '1', '2') WHERE id = 't'",
        "UPDATE tasks SET principal = 'other' WHERE id = 't'",
        "UPDATE bodies SET work = replace(work, 'true', 'tsue')",
    ] {
        assert_eq!(told_after(flip).await, (Code::Internal, Code::Internal), "{flip}");
    }
}

#[tokio::test]
async fn a_report_and_an_event_that_are_damaged_are_told() {
    let mut house = House::open().await;
    let (_worker, lease) = house.started("t").await;
    lease.result(&crate::house::report(protocol::report::Outcome::Succeeded)).await.unwrap();
    house.stop().await;
    let database = rusqlite::Connection::open(house.folders.coordinator_db()).unwrap();
    database.execute("UPDATE reports SET body = replace(body, 'done', 'dune')", []).unwrap();
    database.execute("UPDATE events SET attempt = 7 WHERE n = 2", []).unwrap();
    drop(database);
    let house = house.restart().await;
    let read = house.owner.task(&id("t"), std::time::Duration::ZERO).await;
    assert_eq!(crate::house::code(read), Code::Internal);
    let events = house.events("t", 0, 10).await;
    assert!(events.is_empty(), "{events:?}");
}

#[tokio::test]
async fn commits_that_are_missing_are_told_at_the_opening() {
    let base = tempfile::tempdir().unwrap();
    let folders = folders(base.path());
    let queues = open_queue(&folders);
    seed(&queues).await;
    drop(queues);
    let database = folders.coordinator_db();
    let wal = database.with_extension("db-wal");
    let older = [&database, &wal].map(|file| std::fs::read(file).unwrap_or_default());
    let queues = open_queue(&folders);
    submit(&queues, vec![named("acknowledged")]).await;
    drop(queues);
    for (file, content) in [&database, &wal].into_iter().zip(older) {
        std::fs::write(file, content).unwrap();
    }
    let Err(StoreError::Damaged(why)) = Store::open(&database, |_| ()) else { panic!("it was opened") };
    assert!(why.contains("was acknowledged") && why.contains("coordinator.mark"), "{why}");
    std::fs::remove_file(database.with_extension("mark")).unwrap();
    Store::open(&database, |_| ()).unwrap();
}

#[tokio::test]
async fn a_damaged_task_keeps_nobody_from_the_ones_behind_it() {
    let mut house = House::open().await;
    let (_worker, _lease) = house.started("runs").await;
    for name in ["bad", "body", "good"] {
        house.submit(named(name)).await;
    }
    house.stop().await;
    let database = rusqlite::Connection::open(house.folders.coordinator_db()).unwrap();
    for flip in [
        "UPDATE tasks SET max_attempts = 9 WHERE id = 'bad'",
        "UPDATE bodies SET work = replace(work, 'true', 'tsue') WHERE task = (SELECT n FROM tasks WHERE id = 'body')",
        "UPDATE tasks SET started_at = 1 WHERE id = 'runs'",
    ] {
        assert_eq!(database.execute(flip, []).unwrap(), 1, "{flip}");
    }
    drop(database);
    let house = house.restart().await;
    let leased = house.worker("q").await.lease().await.unwrap();
    assert_eq!(leased.task.id, id("good"));
}

#[tokio::test]
async fn a_full_disk_refuses_new_work_and_loses_nothing() {
    let Some(small) = SmallDisk::mount() else { return };
    let queues = open_queue(&folders(small.folder.path()));
    seed(&queues).await;
    let mut accepted = vec!["seed-q".to_owned()];
    let problem = loop {
        let name = format!("t{}", accepted.len());
        let mut task = named(&name);
        task.argv = Some(vec!["x".repeat(60_000)]);
        let sent = serde_json::to_vec(&task).unwrap();
        let incoming = coordinator::queue::Incoming::new(task.check().unwrap(), &sent);
        let now = coordinator::Clock::start().now();
        match queues.submit(vec![incoming], protocol::Usd::ZERO, now).await {
            Ok(_) => accepted.push(name),
            Err(error) => break Problem::from(error),
        }
        assert!(accepted.len() < 1_000);
    };
    assert_eq!(problem.code, Code::StorageUnavailable, "{problem}");
    for name in &accepted {
        assert!(queues.task(&id(name)).unwrap().is_some(), "{name}");
    }
    assert!(queues.task(&id(&format!("t{}", accepted.len()))).unwrap().is_none());
    let page = queues.page(&TaskFilter { limit: Some(500), ..TaskFilter::default() }).unwrap();
    assert_eq!(page.tasks.len(), accepted.len() + 1, "and the other seed");
    queues.close();
}

/// A file system of two megabytes.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        match rustix::mount::mount("tmpfs", folder.path(), "tmpfs", flags, Some(c"size=2m")) {
            Ok(()) => Some(Self { folder }),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "no small file system: {error}");
                println!("skipped: a small file system cannot be mounted here ({error})");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its folder is removed after this.
        let _ = rustix::mount::unmount(self.folder.path(), rustix::mount::UnmountFlags::DETACH);
    }
}
