//! From the moment before `POST /tasks` is written to the lease in the hands of a worker that waited for it.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use uuid::Uuid;

use crate::{
    api::Worker,
    load::Sample,
    stream,
    systems::{
        folder,
        ours::{Ours, QUEUE},
    },
    table::{Row, summed},
};

/// Tasks are posted this far apart: 100 a second.
const APART: Duration = Duration::from_millis(10);
/// Seconds that a waiter waits at most, before it asks again.
const WAIT: u64 = 50;
/// Workers that wait where the case names no count.
const FEW: usize = 20;
const STREAMS: usize = 50;
/// Registrations that are under way at once.
const AT_ONCE: usize = 16;

/// Workers that wait; what they are given is started, ended, and waited for again.
pub(crate) struct Waiters {
    taken: UnboundedReceiver<(String, Instant)>,
    running: JoinSet<()>,
}

impl Waiters {
    /// Registers and connects them, and returns when all of them wait.
    pub(crate) async fn start(ours: &Ours, count: usize) -> Self {
        let (tell, taken) = unbounded_channel();
        let mut waiters = Self { taken, running: JoinSet::new() };
        let mut registering: JoinSet<Vec<Worker>> = JoinSet::new();
        for part in 0..AT_ONCE {
            let doors = ours.doors.clone();
            let count = (part..count).step_by(AT_ONCE).count();
            registering.spawn(async move { doors.workers(QUEUE, count).await });
        }
        while let Some(workers) = registering.join_next().await {
            for worker in workers.expect("registering does not panic") {
                waiters.running.spawn(wait(worker, tell.clone()));
            }
        }
        ours.until_waiting(count).await;
        waiters
    }

    /// Posts tasks for this long, and takes the time from each post to its lease.
    pub(crate) async fn dispatch(&mut self, ours: &Ours, span: Duration) -> Sample {
        let mut owner = ours.doors.owner().await;
        let mut posted = HashMap::new();
        let mut times = Vec::new();
        let mut ticks = interval(APART);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let began = Instant::now();
        while began.elapsed() < span {
            ticks.tick().await;
            let id = Uuid::new_v4().to_string();
            let mut task = ours.task(QUEUE);
            task["id"] = id.as_str().into();
            let body = task.to_string().into();
            posted.insert(id, Instant::now());
            owner.post("/tasks", body).await;
        }
        let took = began.elapsed();
        while !posted.is_empty() {
            let (task, at) = self.taken.recv().await.expect("the workers wait on");
            times.extend(posted.remove(&task).map(|before| at.duration_since(before)));
        }
        Sample::new(times, took)
    }
}

async fn wait(mut worker: Worker, tell: UnboundedSender<(String, Instant)>) {
    loop {
        if let Some((lease, _)) = worker.lease(WAIT).await {
            let at = Instant::now();
            if tell.send((lease.task.clone(), at)).is_err() {
                return;
            }
            worker.finish(&lease).await;
        }
    }
}

/// Alone, while others stream, and with many who wait; in turns, round by round.
pub(crate) async fn run(span: Duration, rounds: usize) -> Vec<Row> {
    let folder = folder();
    let cases = [("plain", FEW, 0), ("50 streams", FEW, STREAMS), ("1000 waiting", 1_000, 0)];
    let mut samples = [Vec::new(), Vec::new(), Vec::new()];
    let mut streamed = Vec::new();
    for round in 0..rounds {
        for ((case, waiting, streams), samples) in cases.iter().zip(&mut samples) {
            let name = format!("{round} {case}");
            let (sample, bytes) = turn(folder.path(), &name, *waiting, *streams, span).await;
            samples.push(sample);
            if *streams > 0 {
                streamed.push(bytes);
            }
        }
    }
    let rows = cases.iter().zip(samples);
    let rows = rows.map(|((case, waiting, streams), samples)| {
        let mut row = summed(case, "code-workers", *waiting, &samples);
        if *streams > 0 {
            row.more.push(("streamed_mb_per_s", crate::load::median(streamed.clone())));
        }
        row
    });
    rows.collect()
}

/// A coordinator of its own: the times, and the megabytes a second that were streamed beside.
async fn turn(folder: &Path, name: &str, waiting: usize, streams: usize, span: Duration) -> (Sample, f64) {
    let ours = Ours::start(folder, name).await;
    let mut waiters = Waiters::start(&ours, waiting).await;
    let streams = stream::Streams::start(&ours, streams).await;
    let sample = waiters.dispatch(&ours, span).await;
    (sample, streams.megabytes_per_second())
}
