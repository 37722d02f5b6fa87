//! What time alone brings about. Time is a parameter; nothing here waits for it.

use std::{sync::Arc, time::Duration};

use coordinator::{
    Clock,
    queue::{LeaseRequest, Queue, RUN_MARGIN, Reported, after},
    tokens::Claim,
};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use protocol::{
    Code, Problem, TaskState, WorkerId, limits, report::Outcome, submit::NewTask, worker::WorkerEnd,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::house::{folders, id, named, open_queue, queue, report, seed, soon, submit};

pub(crate) struct Bench {
    pub(crate) queue: Arc<Queue>,
    pub(crate) clock: Clock,
    worker: WorkerId,
    base: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn open() -> Self {
        let base = tempfile::tempdir().unwrap();
        let queues = open_queue(&folders(base.path()));
        seed(&queues).await;
        let clock = Clock::start();
        let worker = queues.add_worker(queue("q"), "test".to_owned(), clock.now()).await.unwrap();
        Self { queue: queues, clock, worker, base }
    }

    pub(crate) fn worker(&self) -> &WorkerId {
        &self.worker
    }

    pub(crate) fn base(&self) -> &std::path::Path {
        self.base.path()
    }

    /// Another queue on the same database, as after a restart.
    pub(crate) fn reopen(self) -> Self {
        let Self { queue, clock, worker, base } = self;
        queue.close();
        drop(queue);
        Self { queue: open_queue(&folders(base.path())), clock, worker, base }
    }

    pub(crate) async fn submit(&self, task: NewTask) {
        submit(&self.queue, vec![task]).await;
    }

    pub(crate) async fn lease_at_once(&self) -> Option<protocol::lease::Leased> {
        let stop = CancellationToken::new();
        self.queue.lease(&self.request(), Duration::ZERO, self.clock, &stop).await.unwrap()
    }

    /// After its worker was lost: the time of the retry comes, and another worker runs it.
    pub(crate) async fn run_again(&self) -> Claim {
        let due = self.clock.now() + jiff::SignedDuration::from_mins(10);
        self.queue.reap(due).await.unwrap();
        let worker = self.queue.add_worker(queue("q"), "next".to_owned(), due).await.unwrap();
        let request = LeaseRequest { worker, ..self.request() };
        let stop = CancellationToken::new();
        let leased = self.queue.lease(&request, Duration::ZERO, self.clock, &stop).await.unwrap().unwrap();
        let claim =
            self.queue.tokens().claim(&leased.task.id, leased.lease.attempt, leased.lease.token.expose());
        self.queue.start(&leased.task.id, claim, self.clock.now()).await.unwrap();
        claim
    }

    fn request(&self) -> LeaseRequest {
        LeaseRequest { worker: self.worker.clone(), queue: queue("q"), request: Uuid::new_v4() }
    }

    async fn lease(&self) -> Claim {
        let request =
            LeaseRequest { worker: self.worker.clone(), queue: queue("q"), request: Uuid::new_v4() };
        let stop = CancellationToken::new();
        let leased = self.queue.lease(&request, Duration::ZERO, self.clock, &stop).await.unwrap().unwrap();
        let lease = leased.lease;
        self.queue.tokens().claim(&leased.task.id, lease.attempt, lease.token.expose())
    }

    pub(crate) async fn run(&self, task: NewTask) -> Claim {
        submit(&self.queue, vec![task]).await;
        let claim = self.lease().await;
        self.queue.start(&id("t"), claim, self.clock.now()).await.unwrap();
        claim
    }

    fn state(&self) -> (TaskState, u32, Option<String>) {
        let task = self.queue.task(&id("t")).unwrap().unwrap();
        (task.state, task.attempt, task.reason)
    }

    async fn reap(&self, now: Timestamp) -> TaskState {
        self.queue.reap(now).await.unwrap();
        self.state().0
    }

    /// Writes into the task's row what this program would not.
    fn spoil(&self, name: &str) {
        let database = folders(self.base.path()).coordinator_db();
        let database = rusqlite::Connection::open(database).unwrap();
        let spoilt = database.execute("UPDATE tasks SET worker = 'no worker' WHERE id = ?1", [name]);
        assert_eq!(spoilt.unwrap(), 1);
    }

    async fn beat(&self, claim: Claim, now: Timestamp) -> Result<(), Problem> {
        let stop = CancellationToken::new();
        self.queue.heartbeat(&id("t"), claim, 0, Duration::ZERO, now, &stop).await.map(|_| ())
    }
}

#[tokio::test]
async fn a_lease_that_is_not_started_goes_back() {
    let bench = Bench::open().await;
    submit(&bench.queue, vec![named("t")]).await;
    let claim = bench.lease().await;
    let now = bench.clock.now();
    assert_eq!(bench.reap(after(now, limits::START_WITHIN / 2)).await, TaskState::Leased);
    assert_eq!(bench.reap(after(now, limits::START_WITHIN + Duration::from_secs(1))).await, TaskState::Ready);
    assert_eq!(bench.state(), (TaskState::Ready, 0, Some("not_started".to_owned())));
    let late = bench.queue.start(&id("t"), claim, now).await;
    assert_eq!(Problem::from(late.unwrap_err()).code, Code::LeaseLost);
    let again = bench.lease().await;
    assert_eq!((again.attempt, again.serial), (1, claim.serial + 1));
}

#[tokio::test]
async fn a_damaged_task_does_not_keep_the_others_from_their_time() {
    let bench = Bench::open().await;
    submit(&bench.queue, vec![named("silent"), named("waiting"), named("t")]).await;
    for name in ["silent", "waiting", "t"] {
        let claim = bench.lease().await;
        bench.queue.start(&id(name), claim, bench.clock.now()).await.unwrap();
    }
    bench.spoil("silent");
    let now = after(bench.clock.now(), limits::LEASE);
    assert_eq!(bench.reap(now).await, TaskState::Scheduled);
    bench.spoil("waiting");
    assert_eq!(bench.reap(after(now, Duration::from_secs(2))).await, TaskState::Ready);
}

#[tokio::test]
async fn a_silent_worker_loses_its_lease_and_a_heard_one_does_not() {
    let bench = Bench::open().await;
    let claim = bench.run(named("t")).await;
    let mut now = bench.clock.now();
    for _ in 0..10 {
        now = after(now, limits::LEASE - Duration::from_secs(1));
        bench.beat(claim, now).await.unwrap();
        assert_eq!(bench.reap(now).await, TaskState::Running);
    }
    // Another lease's heartbeat does not count as this one's.
    let stale = Claim { serial: claim.serial + 1, ..claim };
    assert_eq!(bench.beat(stale, after(now, limits::LEASE / 2)).await.unwrap_err().code, Code::LeaseLost);
    now = after(now, limits::LEASE);
    assert_eq!(bench.reap(now).await, TaskState::Scheduled);
    assert_eq!(bench.state().2.as_deref(), Some("lease_expired"));
    assert_eq!(bench.beat(claim, now).await.unwrap_err().code, Code::LeaseLost);
    // Its pause over, it is ready for another attempt.
    assert_eq!(bench.reap(now).await, TaskState::Scheduled);
    assert_eq!(bench.reap(after(now, Duration::from_secs(2))).await, TaskState::Ready);
    assert_eq!(bench.lease().await.attempt, 2);
}

#[tokio::test]
async fn the_last_attempt_that_is_lost_ends_the_task() {
    let bench = Bench::open().await;
    let claim = bench.run(NewTask { max_attempts: Some(1), ..named("t") }).await;
    let now = after(bench.clock.now(), limits::LEASE + Duration::from_secs(1));
    assert_eq!(bench.reap(now).await, TaskState::Lost);
    let late = Reported { id: id("t"), claim, report: report(Outcome::Succeeded), usage: None };
    let refused = Problem::from(bench.queue.finish(late, now).await.unwrap_err());
    assert_eq!((refused.code, refused.state), (Code::LeaseLost, Some(TaskState::Lost)));
    assert_eq!(bench.state(), (TaskState::Lost, 1, Some("lease_expired".to_owned())));
}

#[tokio::test]
async fn a_run_that_beats_for_ever_has_a_hard_end() {
    let bench = Bench::open().await;
    let claim = bench.run(NewTask { timeout_s: Some(60), ..named("t") }).await;
    let hard_end = after(bench.clock.now(), limits::START_WITHIN + Duration::from_secs(60) + RUN_MARGIN);
    bench.beat(claim, hard_end - Duration::from_secs(2)).await.unwrap();
    assert_eq!(bench.reap(hard_end - Duration::from_secs(2)).await, TaskState::Running);
    bench.beat(claim, after(hard_end, Duration::from_secs(1))).await.unwrap();
    assert_eq!(bench.reap(after(hard_end, Duration::from_secs(1))).await, TaskState::TimedOut);
}

#[tokio::test]
async fn a_cancelled_run_whose_worker_is_silent_ends_cancelled() {
    let bench = Bench::open().await;
    bench.run(named("t")).await;
    let now = bench.clock.now();
    bench.queue.cancel(&id("t"), protocol::task::Cancel::default(), now).await.unwrap();
    assert_eq!(bench.reap(after(now, limits::LEASE + Duration::from_secs(1))).await, TaskState::Cancelled);
}

#[tokio::test]
async fn a_result_that_came_first_stands() {
    let bench = Bench::open().await;
    let claim = bench.run(named("t")).await;
    let now = bench.clock.now();
    let done = Reported { id: id("t"), claim, report: report(Outcome::Succeeded), usage: None };
    bench.queue.finish(done, now).await.unwrap();
    assert_eq!(bench.reap(after(now, Duration::from_secs(100_000))).await, TaskState::Succeeded);
}

#[tokio::test]
async fn an_older_low_task_comes_before_a_newer_urgent_one_in_the_end() {
    let bench = Bench::open().await;
    let low = NewTask { priority: protocol::task::Priority::Low, ..named("t") };
    submit(&bench.queue, vec![low]).await;
    let high = NewTask { priority: protocol::task::Priority::High, ..named("late") };
    let sent = serde_json::to_vec(&high).unwrap();
    let incoming = coordinator::queue::Incoming::new(high.check().unwrap(), &sent);
    let later = after(bench.clock.now(), Duration::from_secs(3 * 3_600));
    bench.queue.submit(vec![incoming], protocol::Usd::ZERO, later).await.unwrap();
    bench.lease().await;
    assert_eq!(bench.state().0, TaskState::Leased);
}

#[tokio::test]
async fn an_order_ends_the_longest_wait() {
    let bench = Bench::open().await;
    let claim = bench.run(named("t")).await;
    let (queue, now) = (bench.queue.clone(), bench.clock.now());
    let waiting = tokio::spawn(async move {
        let stop = CancellationToken::new();
        queue.heartbeat(&id("t"), claim, 0, Duration::from_secs(3_600), now, &stop).await
    });
    tokio::task::yield_now().await;
    bench.queue.cancel(&id("t"), protocol::task::Cancel::default(), now).await.unwrap();
    assert_eq!(soon(waiting).await.unwrap().unwrap().orders.len(), 1);
}

#[tokio::test]
async fn the_longest_wait_ends_with_its_lease() {
    let bench = Bench::open().await;
    let claim = bench.run(named("t")).await;
    let (queue, now) = (bench.queue.clone(), bench.clock.now());
    let waiting = tokio::spawn(async move {
        let stop = CancellationToken::new();
        queue.heartbeat(&id("t"), claim, 0, Duration::from_secs(3_600), now, &stop).await
    });
    tokio::task::yield_now().await;
    bench.reap(after(now, limits::LEASE + Duration::from_secs(1))).await;
    assert_eq!(soon(waiting).await.unwrap().unwrap_err().code, Code::LeaseLost);
}

#[tokio::test]
async fn a_worker_that_ended_while_it_waited_gets_nothing() {
    let bench = Bench::open().await;
    let (queue, clock, request) = (bench.queue.clone(), bench.clock, bench.request());
    let waiting = tokio::spawn(async move {
        let stop = CancellationToken::new();
        queue.lease(&request, Duration::from_secs(3_600), clock, &stop).await
    });
    tokio::task::yield_now().await;
    let end = WorkerEnd { exit: None, reason: "killed".to_owned() };
    bench.queue.end_worker(&bench.worker, end, clock.now()).await.unwrap();
    submit(&bench.queue, vec![named("t")]).await;
    assert_eq!(Problem::from(soon(waiting).await.unwrap().unwrap_err()).code, Code::WrongKey);
    assert_eq!(bench.state().0, TaskState::Ready);
}

#[tokio::test]
async fn a_lease_that_nobody_is_there_to_take_goes_back_at_once() {
    let bench = Bench::open().await;
    submit(&bench.queue, vec![named("t")]).await;
    let stop = CancellationToken::new();
    let (gone, request) = (bench.request(), bench.request());
    // Polled once, and dropped: the operation is under way.
    assert!(bench.queue.lease(&gone, Duration::ZERO, bench.clock, &stop).now_or_never().is_none());
    let wait = Duration::from_secs(3_600);
    let leased = soon(bench.queue.lease(&request, wait, bench.clock, &stop)).await.unwrap().unwrap();
    assert_eq!((leased.task.id, leased.lease.attempt), (id("t"), 1));
}
