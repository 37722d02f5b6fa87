//! Tasks that run and say much: each streams 1 MB/s of output in batches, and beats.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    api::{Lease, Worker},
    systems::ours::{Ours, PILE},
};

/// Lines of a batch, and the letters of each: a batch is 64 kB of output.
const LINES: usize = 64;
const LETTERS: usize = 1_000;
/// Batches of one task are this far apart: 1 MB of output a second.
const APART: Duration = Duration::from_millis(64);
const BEAT: Duration = Duration::from_secs(1);

/// Tasks that stream until this is dropped.
pub(crate) struct Streams {
    batches: Arc<AtomicUsize>,
    began: Instant,
    _running: JoinSet<()>,
}

impl Streams {
    /// Lets so many tasks run, and stream.
    pub(crate) async fn start(ours: &Ours, count: usize) -> Self {
        let mut owner = ours.doors.owner().await;
        let batches = Arc::<AtomicUsize>::default();
        let line = json!({
            "at": "2026-01-01T00:00:00Z", "kind": "output", "stream": "stdout", "text": "x".repeat(LETTERS),
        });
        let lines: Arc<str> = serde_json::Value::from(vec![line; LINES]).to_string().into();
        let mut running = JoinSet::new();
        for _ in 0..count {
            owner.post("/tasks", ours.task(PILE).to_string().into()).await;
            let mut worker = ours.doors.worker(PILE).await;
            let (lease, _) = worker.lease(50).await.expect("its task is there");
            worker.of_lease(&lease, "start", Bytes::from_static(b"{}")).await;
            running.spawn(stream(worker, lease, lines.clone(), batches.clone()));
        }
        Self { batches, began: Instant::now(), _running: running }
    }

    /// What all together have streamed since the last began.
    pub(crate) fn megabytes_per_second(&self) -> f64 {
        let bytes = self.batches.load(Ordering::Relaxed) * LINES * LETTERS;
        let bytes = u32::try_from(bytes / 1_000).unwrap_or(u32::MAX);
        f64::from(bytes) / 1_000.0 / self.began.elapsed().as_secs_f64()
    }
}

async fn stream(mut worker: Worker, lease: Lease, lines: Arc<str>, batches: Arc<AtomicUsize>) {
    let mut ticks = interval(APART);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beaten = Instant::now();
    for batch in 0.. {
        ticks.tick().await;
        let body = format!("{{\"first\":{},\"events\":{lines}}}", batch * LINES);
        worker.of_lease(&lease, "events", body.into()).await;
        batches.fetch_add(1, Ordering::Relaxed);
        if beaten.elapsed() > BEAT {
            worker.of_lease(&lease, "heartbeat?wait=0", Bytes::from_static(b"{}")).await;
            beaten = Instant::now();
        }
    }
}
