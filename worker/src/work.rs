//! The worker: one task, from the lease to the report.

use std::{io, path::Path, time::Duration};

use protocol::{
    client::{Endpoint, WorkerClient},
    inside::{self, Outbox, WorkerConfig},
    limits,
    report::Report,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    artifacts::{LOG, Store},
    attempt::{Attempt, Made, limit_time},
    control::{Stop, Stopper},
    events::{Spool, send},
    exit::Exit,
    heartbeat::beat,
    init::start_log,
    lease::{Begun, NoTask, begin},
    log::Log,
    output::Output,
    places::Places,
    report,
};

/// The mode `work`.
#[must_use]
pub fn main() -> Exit {
    start_log();
    let config = match read_config(Path::new(inside::WORKER_CONFIG)) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{}: {error}", inside::WORKER_CONFIG);
            return Exit::BadConfiguration;
        }
    };
    // Two threads: a report that is being hashed must not hold up the heartbeat.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let places = Places::inside()?;
            run(&places, &config, drain_on_sigterm()?).await
        })
    });
    done.unwrap_or_else(|error| {
        tracing::error!("the worker cannot go on: {error}");
        Exit::Broken
    })
}

fn read_config(path: &Path) -> io::Result<WorkerConfig> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn drain_on_sigterm() -> io::Result<CancellationToken> {
    let drain = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let told = drain.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        told.cancel();
    });
    Ok(drain)
}

/// Leases one task, does it and reports. Ends early when `drain` is cancelled: at once without a task, with a
/// task after the agent was stopped and the report is in the outbox and was tried to be delivered.
///
/// # Errors
/// What makes the same end likely for every task: the outbox, a process that cannot be started.
pub async fn run(places: &Places, config: &WorkerConfig, drain: CancellationToken) -> io::Result<Exit> {
    let door = Endpoint::Unix(places.doors.join(inside::COORDINATOR_DOOR));
    let client = WorkerClient::new(door, config.token.clone()).map_err(io::Error::other)?;
    let outbox = Outbox::at(&places.outbox);
    let lease_file = outbox.lease();
    let begun = tokio::select! {
        begun = begin(&client, &config.queue, &lease_file) => begun,
        () = drain.cancelled() => return Ok(Exit::Done),
    };
    match begun {
        Ok(begun) => work(places, config, &outbox, begun, drain).await,
        Err(error @ NoTask::Refused(_)) => {
            tracing::error!("{error}");
            Ok(Exit::Refused)
        }
    }
}

/// Tasks that run beside the attempt, and end with it.
struct Beside(Vec<JoinHandle<()>>);

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn work(
    places: &Places,
    config: &WorkerConfig,
    outbox: &Outbox,
    begun: Begun,
    drain: CancellationToken,
) -> io::Result<Exit> {
    let store = Store::create(outbox.artifacts())?;
    let log = Log::create(&store.path(LOG))?;
    let spool = Spool::create(&places.outbox.join("events.jsonl"))?;
    let sender = tokio::spawn(send(spool.reader()?, begun.client.clone()));
    let output = Output::new(log, spool);
    let stopper = Stopper::new();
    let task = &begun.leased.task;
    let beside = beside(&begun, &stopper, &drain);
    let attempt = Attempt {
        places,
        task,
        default_agent: &config.default_agent,
        key: begun.started.virtual_key.as_ref(),
        output: &output,
        store: &store,
        stopper: &stopper,
    };
    let made = attempt.make().await;
    output.stage("upload");
    let mut report = finish(made, output);
    report::hold(outbox, &begun.held, &report);
    let deliver = async {
        // Events first: when the result is in, the coordinator takes no more of them.
        let _ = sender.await;
        report::deliver(outbox, &begun.held, &mut report, &begun.client).await;
    };
    let delivered = deliver_or_drain(deliver, &drain).await;
    drop(beside);
    Ok(delivered)
}

/// Heartbeat, time limit, SIGTERM.
fn beside(begun: &Begun, stopper: &Stopper, drain: &CancellationToken) -> Beside {
    let (client, lease, beats) = (begun.client.clone(), begun.leased.lease.clone(), stopper.clone());
    let (timeout, clock) = (Duration::from_secs(begun.leased.task.timeout_s), stopper.clone());
    let (drain, drained) = (drain.clone(), stopper.clone());
    Beside(vec![
        tokio::spawn(async move { beat(&client, &lease, &beats).await }),
        tokio::spawn(async move { limit_time(timeout, &clock).await }),
        tokio::spawn(async move {
            drain.cancelled().await;
            drained.stop(Stop::Drained);
        }),
    ])
}

/// Git's own words, say, may be longer than a reason may be.
fn short(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(limits::REASON_BYTES));
    reason
}

fn finish(made: Made, output: Output) -> Report {
    let (log, log_tail) = output.into_files().map_or((None, String::new()), |(log, spool)| {
        spool.finish();
        log.finish()
    });
    Report {
        outcome: made.verdict.outcome,
        reason: made.verdict.reason.map(short),
        exit_code: made.verdict.exit_code,
        message: made.message,
        head: made.head,
        diff: made.diff,
        tokens: made.tokens,
        stages: made.stages,
        log_tail,
        artifacts: made.artifacts.into_iter().chain(log).collect(),
    }
}

/// How long a report may take to be delivered once the sandbox is told to end; the launcher delivers it else.
const DELIVER_WITHIN: Duration = Duration::from_secs(5);

async fn deliver_or_drain(deliver: impl Future<Output = ()>, drain: &CancellationToken) -> Exit {
    let patience = async {
        drain.cancelled().await;
        tokio::time::sleep(DELIVER_WITHIN).await;
    };
    tokio::select! {
        () = deliver => Exit::Done,
        () = patience => Exit::Undelivered,
    }
}
