//! Killed while it forgets the past: between the files and the rows, and then again.

use std::sync::Arc;

use coordinator::{
    config::{Days, Retention},
    retention::Sweeper,
};
use tokio_util::sync::CancellationToken;

use crate::{
    child::{Plan, folders},
    end,
    kills::seed,
    lives::{MAX_RUNNING, begin, drain, kill, load},
    place::{self, Place, open_queue},
    world::World,
};

/// Forgets everything that has ended, as a coordinator would in a hundred days. Runs in a process of its own.
pub(crate) async fn sweep(plan: &Plan) {
    let folders = folders(&plan.base);
    let queue = open_queue(&folders).unwrap();
    let retention = Retention { tasks: Days(90), output: Days(30), artifacts: Days(30) };
    let sweeper = Sweeper { queue: queue.clone(), folders, retention };
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 100);
    sweeper.sweep(then, &CancellationToken::new()).await.unwrap();
    queue.close();
}

fn files_in(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn a_crash_while_the_past_is_forgotten_leaves_nothing_that_nobody_knows_of() {
    tokio::task::LocalSet::new().run_until(forget(seed())).await;
}

async fn forget(seed: u64) {
    let place = Place::new().await;
    let scratch = place.beside("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let world = Arc::new(World::new(place.folders.clone(), scratch, seed, false));
    let load = load(&world);
    let mut child =
        begin(&place, &world, &Plan { max_running: MAX_RUNNING, ..Plan::default() }).await.unwrap();
    while world.answers.load(std::sync::atomic::Ordering::SeqCst) < 150 {
        world.a_little().await;
    }
    drain(&world).await;
    for part in load {
        tokio::time::timeout(place::PATIENCE, part).await.expect("the load did not end").unwrap();
    }
    let owner = world.owner();
    let tasks = end::states(&owner).await;
    kill(&place, &mut child).await;
    let artifacts = place.folders.data.join("artifacts");
    assert!(files_in(&place.folders.output()) > 0 && files_in(&artifacts) > 0);

    let crash = Some(("retention.removed".to_owned(), 1));
    let status = place.start(&Plan { sweep: true, crash, ..Plan::default() }).wait().await.unwrap();
    place.require_killed(status);
    assert_eq!((files_in(&place.folders.output()), files_in(&artifacts)), (0, 0));
    let mut child = begin(&place, &world, &Plan::default()).await.unwrap();
    assert_eq!(end::states(&owner).await, tasks, "the rows go after the files");
    // Without its files a task can still be looked at.
    end::look(&owner).await;
    kill(&place, &mut child).await;

    let status = place.start(&Plan { sweep: true, ..Plan::default() }).wait().await.unwrap();
    assert!(status.success(), "{}", std::fs::read_to_string(place.beside("log")).unwrap());
    let _child = begin(&place, &world, &Plan::default()).await.unwrap();
    assert_eq!(end::states(&owner).await.len(), 0);
    let database = rusqlite::Connection::open(place.folders.coordinator_db()).unwrap();
    for table in ["tasks", "bodies", "events", "orders", "reports", "uploads", "keys"] {
        let count = format!("SELECT COUNT(*) FROM {table}");
        let rows: i64 = database.query_row(&count, [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}
