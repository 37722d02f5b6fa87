//! Requests that arrive twice, beside others that wait. One thread, so that what is asked first waits first.

use std::{sync::Arc, time::Duration};

use coordinator::{
    Clock,
    queue::{LeaseRequest, Queue},
};
use protocol::{TaskId, WorkerId};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::house::{folders, id, named, open_queue, queue, seed, soon, submit};

/// Shorter than the time after which a waiter looks again without being woken.
const WAIT: Duration = Duration::from_secs(10);

struct Waiters {
    queue: Arc<Queue>,
    _base: tempfile::TempDir,
}

impl Waiters {
    async fn open() -> Self {
        let base = tempfile::tempdir().unwrap();
        let queue = open_queue(&folders(base.path()));
        seed(&queue).await;
        Self { queue, _base: base }
    }

    async fn worker(&self) -> WorkerId {
        let now = Clock::start().now();
        self.queue.add_worker(queue("q"), "test".to_owned(), now).await.unwrap()
    }

    /// Waits for a task, behind all that wait already: it has looked, and found none, when this returns.
    async fn wait(&self, worker: &WorkerId, request: Uuid) -> JoinHandle<Option<TaskId>> {
        let request = LeaseRequest { worker: worker.clone(), queue: queue("q"), request };
        let queue = self.queue.clone();
        let waiting = tokio::spawn(async move {
            let stop = CancellationToken::new();
            let leased = queue.lease(&request, WAIT, Clock::start(), &stop).await;
            leased.ok().flatten().map(|leased| leased.task.id)
        });
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        // The database's one writer does one thing after another.
        self.worker().await;
        waiting
    }
}

#[tokio::test]
async fn a_copy_of_a_lease_request_keeps_no_task_from_whoever_waits_behind_it() {
    let waiters = Waiters::open().await;
    let (doubled, request) = (waiters.worker().await, Uuid::new_v4());
    let mut first = waiters.wait(&doubled, request).await;
    let mut copy = waiters.wait(&doubled, request).await;
    let other = waiters.wait(&waiters.worker().await, Uuid::new_v4()).await;
    submit(&waiters.queue, vec![named("one")]).await;
    // Which of the two is woken is all the same: it is one worker.
    let leased = soon(async {
        tokio::select! { leased = &mut first => leased, leased = &mut copy => leased }
    });
    assert_eq!(leased.await.unwrap(), Some(id("one")));
    submit(&waiters.queue, vec![named("two")]).await;
    assert_eq!(soon(other).await.unwrap(), Some(id("two")));
}

#[tokio::test]
async fn a_request_of_a_worker_that_has_ended_keeps_no_task_from_whoever_waits_behind_it() {
    let waiters = Waiters::open().await;
    let ended = waiters.worker().await;
    let first = waiters.wait(&ended, Uuid::new_v4()).await;
    let other = waiters.wait(&waiters.worker().await, Uuid::new_v4()).await;
    let end = protocol::worker::WorkerEnd { exit: None, reason: "killed".to_owned() };
    waiters.queue.end_worker(&ended, end, Clock::start().now()).await.unwrap();
    submit(&waiters.queue, vec![named("one")]).await;
    assert_eq!(soon(first).await.unwrap(), None);
    assert_eq!(soon(other).await.unwrap(), Some(id("one")));
}
