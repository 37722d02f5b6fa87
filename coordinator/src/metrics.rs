//! What is counted, for Prometheus: `GET /metrics`.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use protocol::{QueueName, TaskState, queue::QueueStatus};

use crate::queue::{Commit, Committed, Row, locked};

/// What [`Metrics::text`] writes.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All counters. Those of queues stand from the coordinator's start.
pub struct Metrics {
    told: std::sync::Mutex<Told>,
    lease_wait: Family<OfQueue, Histogram>,
    run_time: Family<Ended, Histogram>,
    ended: Family<Ended, Counter>,
    lost: Family<OfQueue, Counter>,
    retries: Family<OfQueue, Counter>,
    not_started: Family<OfQueue, Counter>,
    operations: Counter,
    batch: Histogram,
}

/// What is set when it is asked for.
struct Told {
    registry: Registry,
    depth: Family<Depth, Gauge>,
    waiting: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQueue {
    queue: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    queue: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Depth {
    queue: String,
    state: &'static str,
}

fn of(queue: &QueueName) -> OfQueue {
    OfQueue { queue: queue.to_string() }
}

impl Default for Metrics {
    fn default() -> Self {
        let waits = || Histogram::new(exponential_buckets(0.001, 4.0, 12));
        let runs = || Histogram::new(exponential_buckets(0.1, 3.0, 12));
        let metrics = Self {
            lease_wait: Family::new_with_constructor(waits),
            run_time: Family::new_with_constructor(runs),
            ended: Family::default(),
            lost: Family::default(),
            retries: Family::default(),
            not_started: Family::default(),
            operations: Counter::default(),
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            told: std::sync::Mutex::new(Told {
                registry: Registry::with_prefix("code_workers"),
                depth: Family::default(),
                waiting: Gauge::default(),
            }),
        };
        metrics.register();
        metrics
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    fn register(&self) {
        let mut told = locked(&self.told);
        let (depth, waiting) = (told.depth.clone(), told.waiting.clone());
        let registry = &mut told.registry;
        registry.register("tasks", "Tasks that have not ended", depth);
        registry.register("long_polls_waiting", "Requests that wait for a task or for a task's end", waiting);
        let help = "Seconds from ready to leased";
        registry.register("lease_wait_seconds", help, self.lease_wait.clone());
        let help = "Seconds that an attempt ran, by how its task ended";
        registry.register("run_seconds", help, self.run_time.clone());
        registry.register("tasks_ended", "Tasks that ended", self.ended.clone());
        let help = "Leases of running tasks whose worker fell silent, died or gave up";
        registry.register("leases_lost", help, self.lost.clone());
        registry.register("retries", "Lost attempts that are followed by another", self.retries.clone());
        let help = "Leases that were not started, and went back";
        registry.register("leases_not_started", help, self.not_started.clone());
        registry.register("operations", "Changes that were committed", self.operations.clone());
        let help = "Changes in one commit; their count is the number of commits, each flushed once";
        registry.register("commit_operations", help, self.batch.clone());
    }

    /// Counts what was committed in one transaction.
    pub fn committed(&self, commit: Commit<'_>) {
        if commit.flushed {
            let operations = u32::try_from(commit.operations).unwrap_or(u32::MAX);
            self.operations.inc_by(operations.into());
            self.batch.observe(operations.into());
        }
        for Committed { row, from, .. } in commit.changes {
            if let Some(from) = from
                && from.state() != row.state()
            {
                self.changed(from, row);
            }
        }
    }

    fn changed(&self, from: &Row, row: &Row) {
        let queue = of(&row.queue);
        let seconds = |since| row.since.duration_since(since).as_secs_f64().max(0.0);
        let (before, now) = (from.state(), row.state());
        if now.is_terminal() {
            let ended = Ended { queue: queue.queue.clone(), state: now.as_str() };
            if before == TaskState::Running {
                let started = row.started_at.unwrap_or(row.since);
                self.run_time.get_or_create(&ended).observe(seconds(started));
            }
            self.ended.get_or_create(&ended).inc();
        }
        match (before, now) {
            (TaskState::Ready, TaskState::Leased) => {
                self.lease_wait.get_or_create(&queue).observe(seconds(from.since));
            }
            (TaskState::Leased, TaskState::Ready) => {
                self.not_started.get_or_create(&queue).inc();
            }
            (TaskState::Running, TaskState::Scheduled) => {
                self.lost.get_or_create(&queue).inc();
                self.retries.get_or_create(&queue).inc();
            }
            (TaskState::Running, TaskState::Lost) => {
                self.lost.get_or_create(&queue).inc();
            }
            _ => {}
        }
    }

    /// All of them, as text; with how the queues stand, and how many requests wait.
    ///
    /// # Errors
    /// Never, as long as text can be written to memory.
    pub fn text(&self, queues: &[QueueStatus], waiting: usize) -> Result<String, fmt::Error> {
        let told = locked(&self.told);
        told.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        told.depth.clear();
        for queue in queues {
            let depth = &queue.depth;
            for (state, count) in [
                ("held", depth.held),
                ("scheduled", depth.scheduled),
                ("ready", depth.ready),
                ("leased", depth.leased),
                ("running", depth.running),
            ] {
                let label = Depth { queue: queue.name.to_string(), state };
                told.depth.get_or_create(&label).set(count.cast_signed());
            }
        }
        let mut text = String::new();
        encode(&mut text, &told.registry)?;
        Ok(text)
    }
}
