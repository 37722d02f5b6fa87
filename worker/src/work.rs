//! The worker: one task, from the lease to the report.

use std::{io, path::Path, time::Duration};

use protocol::{
    Secret,
    client::{ClientError, Endpoint, WorkerClient},
    ids::{AgentName, QueueName},
    inside::{self, Outbox, SandboxLimits, WorkerConfig},
    report::{Limit, Outcome},
};
use rustix::process::{getpid, set_child_subreaper};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    around::Around,
    artifacts::{LOG, Store},
    attempt::{Attempt, limit_time},
    control::{Stop, Stopper},
    events::{Spool, SpoolReader, send},
    exit::Exit,
    git::Base,
    guard::Guard,
    heartbeat::Heart,
    init::start_log,
    lease::{Begun, NoTask, begin},
    log::Log,
    messages::Mailbox,
    output::Output,
    places::Places,
    privileges, report,
    verdict::Verdict,
};

/// What a task's owner is told where nothing holds its agent in.
const NO_SANDBOX: &str =
    "no sandbox: this runs as a user of its launcher's machine, with all that is this user's";

/// The mode `work`.
#[must_use]
pub fn main() -> Exit {
    start_log();
    privileges::hide_memory();
    let told = Around::from_env(|name| std::env::var(name).ok())
        .and_then(|around| Ok((read_config(&around.path(inside::WORKER_CONFIG))?, around)));
    let (config, around) = match told {
        Ok(told) => told,
        Err(error) => {
            tracing::error!("{}: {error}", inside::WORKER_CONFIG);
            return Exit::BadConfiguration;
        }
    };
    // Two threads: a report that is being hashed must not hold up the heartbeat.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let mut service = Service::new(around.coordinator(), &config).map_err(io::Error::other)?;
            if let Around::Nothing(_) = around {
                // Its orphans come to this process, so that none gets away from the end of its task.
                set_child_subreaper(Some(getpid()))?;
                service.notes.push(NO_SANDBOX.to_owned());
            }
            run(&Places::of(&around)?, &service, drain_on_sigterm()?).await
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

/// Whom a worker works for.
pub struct Service {
    /// Its door.
    pub client: WorkerClient,
    /// The queue that it takes tasks from.
    pub queue: QueueName,
    /// For tasks that name no agent.
    pub default_agent: AgentName,
    /// The agents' key, instead of one that is made for each attempt.
    pub own_key: Option<Secret>,
    /// What its sandbox may use.
    pub limits: SandboxLimits,
    /// What every task's owner is to know of this worker.
    pub notes: Vec<String>,
}

impl Service {
    /// As a launcher configures it.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn new(door: Endpoint, config: &WorkerConfig) -> Result<Self, ClientError> {
        Ok(Self {
            client: WorkerClient::new(door, config.token.clone())?,
            queue: config.queue.clone(),
            default_agent: config.default_agent.clone(),
            own_key: None,
            limits: config.limits,
            notes: Vec::new(),
        })
    }
}

pub(crate) fn drain_on_sigterm() -> io::Result<CancellationToken> {
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
pub async fn run(places: &Places, service: &Service, drain: CancellationToken) -> io::Result<Exit> {
    let outbox = Outbox::at(&places.outbox);
    let lease_file = places.heir.then(|| outbox.lease());
    match begin(service, lease_file.as_deref(), &drain).await {
        Ok(begun) => Ok(work(places, service, &outbox, begun, drain).await),
        Err(NoTask::Drained) => Ok(Exit::Done),
        Err(error @ NoTask::Refused(_)) => {
            tracing::error!("{error}");
            if error.is_of_the_key() {
                tracing::error!(
                    "401 or 403 is a key mismatch: this worker's token (FORTRESS_API_KEY in a fortress) is not one \
                     that this coordinator made for the queue {}; start it anew, with a token made for it",
                    service.queue
                );
            }
            Ok(Exit::Refused)
        }
        Err(NoTask::Outbox(error)) => Err(error),
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
    service: &Service,
    outbox: &Outbox,
    begun: Begun,
    drain: CancellationToken,
) -> Exit {
    let (output, events, store) = match files(outbox, service.limits.output_bytes) {
        Ok(files) => files,
        Err(error) => return report_broken(places, outbox, &begun, &error, &drain).await,
    };
    service.notes.iter().for_each(|note| output.error(note));
    let sender = tokio::spawn(send(events, begun.client.clone()));
    let (stopper, mailbox) = (Stopper::new(), Mailbox::default());
    let mut beside = beside(&begun, &stopper, &mailbox, &output, &drain);
    let (guard, struck) = Guard::new(places.clone(), service.limits, stopper.clone());
    beside.0.extend([
        tokio::spawn(guard.clone().watch()),
        tokio::spawn(guard.clone().count_open()),
        tokio::spawn(guard.count_files()),
    ]);
    let attempt = Attempt {
        places,
        task: &begun.leased.task,
        base: Base::of(places, &begun.client),
        default_agent: &service.default_agent,
        key: service.own_key.as_ref().or(begun.started.virtual_key.as_ref()),
        provider_paths: begun.started.provider_paths,
        output: &output,
        store: &store,
        stopper: &stopper,
        mailbox: &mailbox,
    };
    let made = attempt.make().await;
    output.stage("upload");
    let cut = output.is_cut().then_some(Limit::Output);
    let time = (made.verdict.outcome == Outcome::TimedOut).then_some(Limit::Time);
    let limits = struck.all().into_iter().chain(cut).chain(time).collect();
    let (log, log_tail) = output.end_log();
    let mut report = report::of(made, limits, log, log_tail);
    let heir = places.heir.then_some(outbox);
    report::hold(heir, &begun.held, &report);
    let deliver = async {
        report::upload(outbox, &mut report, &begun.client).await;
        // Again, so that whoever posts it posts the same.
        report::hold(heir, &begun.held, &report);
        // Events first: when the result is in, the coordinator takes no more of them.
        output.end_events();
        let _ = sender.await;
        report::deliver(heir, &begun.held, &report, &begun.client).await;
    };
    let delivered = deliver_or_drain(deliver, &drain).await;
    // For the launcher, which sends what was not sent.
    output.end_events();
    drop(beside);
    delivered
}

/// All that is written while the attempt runs.
fn files(outbox: &Outbox, output_bytes: u64) -> io::Result<(Output, SpoolReader, Store)> {
    let store = Store::create(outbox.artifacts())?;
    let log = Log::create(&store.path(LOG), output_bytes)?;
    let spool = Spool::create(&outbox.events())?;
    let events = spool.reader()?;
    Ok((Output::new(log, spool), events, store))
}

/// The end of an attempt that could not begin.
async fn report_broken(
    places: &Places,
    outbox: &Outbox,
    begun: &Begun,
    error: &io::Error,
    drain: &CancellationToken,
) -> Exit {
    tracing::error!("the outbox takes no files: {error}");
    let reason = format!("sandbox_broken: the outbox takes no files: {error}");
    let report = report::without_work(Verdict::lost(reason));
    let heir = places.heir.then_some(outbox);
    report::hold(heir, &begun.held, &report);
    let deliver = report::deliver(heir, &begun.held, &report, &begun.client);
    match deliver_or_drain(deliver, drain).await {
        Exit::Done => Exit::Broken,
        other => other,
    }
}

/// Heartbeat, time limit, SIGTERM.
fn beside(
    begun: &Begun,
    stopper: &Stopper,
    mailbox: &Mailbox,
    output: &Output,
    drain: &CancellationToken,
) -> Beside {
    let heart = Heart {
        client: begun.client.clone(),
        lease: begun.leased.lease.clone(),
        begun: begun.asked,
        stopper: stopper.clone(),
        mailbox: mailbox.clone(),
        output: output.clone(),
    };
    let (timeout, clock) = (Duration::from_secs(begun.leased.task.timeout_s), stopper.clone());
    let (drain, drained) = (drain.clone(), stopper.clone());
    Beside(vec![
        tokio::spawn(heart.beat()),
        tokio::spawn(async move { limit_time(timeout, &clock).await }),
        tokio::spawn(async move {
            drain.cancelled().await;
            drained.stop(Stop::Drained);
        }),
    ])
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
