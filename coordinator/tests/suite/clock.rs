//! Clocks that are set: between two runs of the coordinator, which takes the wall's time when it starts, and from one
//! call to the next.

use std::{collections::HashMap, sync::Arc, time::Duration};

use coordinator::{
    Clock,
    output::Outputs,
    queue::{LeaseRequest, Queue, RUN_MARGIN, Reported, after},
    tokens::{Claim, Tokens},
};
use jiff::{SignedDuration, Timestamp};
use protocol::{TaskId, TaskState, WorkerId, limits, report::Outcome, submit::NewTask};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::house::{folders, id, named, queue, report, seed, submit};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const SECOND: Duration = Duration::from_secs(1);

/// A queue whose clock is set by hand.
struct Set {
    queue: Arc<Queue>,
    worker: WorkerId,
    now: Timestamp,
    base: tempfile::TempDir,
}

fn open(base: &std::path::Path, now: Timestamp) -> Arc<Queue> {
    let folders = folders(base);
    std::fs::create_dir_all(folders.output()).unwrap();
    let tokens = Tokens::open(&folders.data.join("coordinator.secret")).unwrap();
    let (outputs, clock) = (Outputs::new(folders.output()), Clock::showing(now));
    Queue::open(&folders.coordinator_db(), tokens, outputs, Arc::default(), 0, clock).unwrap().0
}

impl Set {
    async fn open() -> Self {
        let (base, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        let queues = open(base.path(), now);
        seed(&queues).await;
        let worker = queues.add_worker(queue("q"), "test".to_owned(), now).await.unwrap();
        Self { queue: queues, worker, now, base }
    }

    /// The coordinator stops, the machine's clock is set, and it starts again.
    fn restart_at(self, now: Timestamp) -> Self {
        self.queue.close();
        let Self { queue, worker, base, .. } = self;
        drop(queue);
        Self { queue: open(base.path(), now), worker, now, base }
    }

    async fn lease(&self) -> Option<(TaskId, Claim)> {
        let request =
            LeaseRequest { worker: self.worker.clone(), queue: queue("q"), request: Uuid::new_v4() };
        let (clock, stop) = (Clock::showing(self.now), CancellationToken::new());
        let leased = self.queue.lease(&request, Duration::ZERO, clock, &stop).await.unwrap()?;
        let (task, lease) = (leased.task.id, leased.lease);
        let claim = self.queue.tokens().claim(&task, lease.attempt, lease.token.expose());
        Some((task, claim))
    }

    async fn leased(&self, task: NewTask) -> Claim {
        submit(&self.queue, vec![task]).await;
        self.lease().await.unwrap().1
    }

    async fn running(&self, task: NewTask) -> Claim {
        let claim = self.leased(task).await;
        self.queue.start(&id("t"), claim, self.now).await.unwrap();
        claim
    }

    async fn beat(&self, task: &TaskId, claim: Claim) -> bool {
        let stop = CancellationToken::new();
        self.queue.heartbeat(task, claim, 0, Duration::ZERO, self.now, &stop).await.is_ok()
    }

    async fn finish(&self, task: &TaskId, claim: Claim) -> bool {
        let report = report(Outcome::Succeeded);
        let reported = Reported { id: task.clone(), claim, report, usage: None };
        self.queue.finish(reported, self.now).await.is_ok()
    }

    fn state(&self, task: &TaskId) -> TaskState {
        self.queue.task(task).unwrap().unwrap().state
    }

    /// So much later the reaper looks.
    async fn pass(&mut self, time: Duration) -> TaskState {
        self.now = after(self.now, time);
        self.queue.reap(self.now).await.unwrap();
        self.state(&id("t"))
    }
}

#[tokio::test]
async fn a_task_whose_worker_is_heard_outlives_a_clock_that_is_set_forward_by_a_day() {
    let set = Set::open().await;
    let claim = set.running(named("t")).await;
    let forward = set.now + DAY;
    let mut set = set.restart_at(forward);
    assert!(set.beat(&id("t"), claim).await);
    assert_eq!(set.pass(SECOND).await, TaskState::Running);
    assert!(set.finish(&id("t"), claim).await);
    assert_eq!(set.state(&id("t")), TaskState::Succeeded);
}

#[tokio::test]
async fn a_run_has_a_hard_end_after_its_clock_was_set_back_too() {
    let set = Set::open().await;
    let claim = set.running(NewTask { timeout_s: Some(60), ..named("t") }).await;
    let back = set.now - DAY;
    let mut set = set.restart_at(back);
    let most = limits::START_WITHIN + Duration::from_secs(60) + RUN_MARGIN + SECOND;
    set.now = after(set.now, most);
    set.beat(&id("t"), claim).await;
    assert_eq!(set.pass(SECOND).await, TaskState::TimedOut);
}

#[tokio::test]
async fn a_lease_that_nobody_starts_goes_back_in_time_after_the_clock_was_set_back_by_a_day() {
    let set = Set::open().await;
    let claim = set.leased(named("t")).await;
    let back = set.now - DAY;
    let mut set = set.restart_at(back);
    assert_eq!(set.pass(limits::START_WITHIN - SECOND).await, TaskState::Leased);
    assert_eq!(set.pass(SECOND * 2).await, TaskState::Ready);
    assert!(set.queue.start(&id("t"), claim, set.now).await.is_err());
    assert_eq!(set.lease().await.unwrap().1.attempt, 1);
}

#[tokio::test]
async fn a_silent_worker_loses_its_lease_in_time_whichever_way_the_clock_was_set() {
    for by in [DAY, -DAY] {
        let set = Set::open().await;
        let claim = set.running(named("t")).await;
        let now = set.now + by;
        let mut set = set.restart_at(now);
        assert_eq!(set.pass(limits::LEASE - SECOND).await, TaskState::Running, "set by {by}");
        assert_eq!(set.pass(SECOND * 2).await, TaskState::Scheduled, "set by {by}");
        assert!(!set.finish(&id("t"), claim).await, "set by {by}");
    }
}

/// The pauses that are ours: a minute and a half at most. What its owner bid it wait for is another thing.
#[tokio::test]
async fn a_retry_waits_its_own_time_after_the_clock_was_set_back_by_a_day() {
    let set = Set::open().await;
    set.running(named("t")).await;
    let mut set = set;
    assert_eq!(set.pass(limits::LEASE + SECOND).await, TaskState::Scheduled);
    let back = set.now - DAY;
    let mut set = set.restart_at(back);
    assert_eq!(set.pass(Duration::from_secs(120)).await, TaskState::Ready);
    assert_eq!(set.lease().await.unwrap().1.attempt, 2);
}

#[tokio::test]
async fn a_lease_that_was_given_back_waits_its_own_time_after_the_clock_was_set_back_by_a_day() {
    let set = Set::open().await;
    let claim = set.leased(named("t")).await;
    let pause = Duration::from_secs(2);
    set.queue.give_back(&id("t"), claim, "gateway_unavailable", pause, set.now).await.unwrap();
    let back = set.now - DAY;
    let mut set = set.restart_at(back);
    set.pass(Duration::from_secs(120)).await;
    assert_eq!(set.lease().await.unwrap().1.attempt, 1);
}

/// A time that its owner named is a time of the wall's clock, and moves with it.
#[tokio::test]
async fn a_task_with_a_time_waits_for_what_the_walls_clock_shows() {
    let set = Set::open().await;
    let not_before = set.now + SignedDuration::from_hours(48);
    submit(&set.queue, vec![NewTask { not_before: Some(not_before), ..named("t") }]).await;
    let forward = set.now + DAY;
    let mut set = set.restart_at(forward);
    assert_eq!(set.pass(SECOND).await, TaskState::Scheduled);
    let back = set.now - DAY * 2;
    let mut set = set.restart_at(back);
    assert_eq!(set.pass(Duration::from_secs(48 * 3_600)).await, TaskState::Scheduled);
    let there = not_before;
    let mut set = set.restart_at(there);
    assert_eq!(set.pass(Duration::ZERO).await, TaskState::Ready);
}

/// What a seed makes of many tasks, restarts, and a clock that is set by up to a day before every step.
struct Wild {
    set: Set,
    random: fastrand::Rng,
    start: Timestamp,
    /// Leases that were handed out, each task's latest.
    held: HashMap<TaskId, Claim>,
    /// Leases that another has taken the place of.
    stale: Vec<(TaskId, Claim)>,
    accepted: HashMap<TaskId, u32>,
}

impl Wild {
    async fn open(seed: u64) -> Self {
        let set = Set::open().await;
        let tasks = (0..5).map(|n| NewTask { max_attempts: Some(20), ..named(&format!("t{n}")) });
        submit(&set.queue, tasks.collect()).await;
        let random = fastrand::Rng::with_seed(seed);
        let start = set.now;
        Self { set, random, start, held: HashMap::new(), stale: Vec::new(), accepted: HashMap::new() }
    }

    fn any_held(&mut self) -> Option<(TaskId, Claim)> {
        let mut held: Vec<_> = self.held.iter().map(|(task, claim)| (task.clone(), *claim)).collect();
        held.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        self.random.choice(held)
    }

    async fn lease(&mut self) {
        let Some((task, claim)) = self.set.lease().await else { return };
        assert_eq!(self.accepted.get(&task), None, "{task} has ended, and is leased");
        let before = self.held.insert(task.clone(), claim);
        if let Some(before) = before {
            assert!(before.serial < claim.serial, "{task} is leased twice with one lease");
            self.stale.push((task, before));
        }
    }

    /// Whoever had it has lost it.
    async fn come_late(&mut self) {
        let Some((task, claim)) = self.random.choice(self.stale.clone()) else { return };
        assert!(!self.set.beat(&task, claim).await, "{task} is another's");
        assert!(self.set.queue.start(&task, claim, self.set.now).await.is_err(), "{task} is another's");
        assert!(!self.set.finish(&task, claim).await, "{task} is another's");
    }

    async fn step(&mut self) {
        let by = self.random.i64(-86_400..86_400);
        self.set.now = self.start + SignedDuration::from_secs(by);
        let held = self.any_held();
        match (self.random.u8(..7), held) {
            (0 | 1, _) => self.lease().await,
            (2, Some((task, claim))) => drop(self.set.queue.start(&task, claim, self.set.now).await),
            (3, Some((task, claim))) => drop(self.set.beat(&task, claim).await),
            (4, Some((task, claim))) => self.finish(task, claim).await,
            (5, _) => drop(self.set.queue.reap(self.set.now).await.unwrap()),
            _ => self.come_late().await,
        }
    }

    async fn finish(&mut self, task: TaskId, claim: Claim) {
        let before = self.set.state(&task);
        if self.set.finish(&task, claim).await && before != TaskState::Succeeded {
            *self.accepted.entry(task).or_default() += 1;
        }
    }
}

#[tokio::test]
async fn whatever_the_clock_shows_nothing_is_lost_and_nothing_is_done_twice() {
    for seed in 0..10 {
        let mut wild = Wild::open(seed).await;
        for step in 0..160 {
            wild.step().await;
            if step % 40 == 39 {
                let now = wild.set.now;
                wild.set = wild.set.restart_at(now);
            }
        }
        // The clock stands no more: all that waits for something comes to its end.
        wild.set.now = wild.start + DAY * 3;
        for _ in 0..40 {
            wild.set.now = after(wild.set.now, limits::LEASE * 2);
            wild.set.queue.reap(wild.set.now).await.unwrap();
            while let Some((task, claim)) = wild.set.lease().await {
                wild.set.queue.start(&task, claim, wild.set.now).await.unwrap();
                wild.finish(task, claim).await;
            }
        }
        for number in 0..5 {
            let task = id(&format!("t{number}"));
            let state = wild.set.state(&task);
            let accepted = wild.accepted.get(&task).copied().unwrap_or_default();
            let right = match state {
                TaskState::Succeeded => accepted == 1,
                TaskState::TimedOut => accepted == 0,
                _ => false,
            };
            assert!(right, "seed {seed}: {task} is {state} after {accepted} results");
        }
    }
}
