//! Keeps the pool full, tells what happens, and drains it at the end.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use protocol::WorkerId;
use protocol::client::ClientError;
use protocol::settings::EXIT_BAD_CONFIGURATION;
use sandbox::{Bare, Docker, Fortress, Knock, Runsc, Runtime};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::attend::{Happened, attend, start_when_reachable};
use crate::finish::{sweep, sweep_stores};
use crate::folder::doors_in_reach;
use crate::lines::{News, Order, Stopped};
use crate::outbox;
use crate::policy::{self, work_stores};
use crate::pool::{Decision, Pool};
use crate::settings::{self, Config, Kind, Wish};
use crate::shutdown::{Action, Shutdown};
use crate::signals::Signals;
use crate::start::{Kept, NotKept};
use crate::tell::{self, count, tell, tell_error};

/// Refused by the coordinator: a wrong key, an unknown repository.
const EXIT_REFUSED: u8 = 6;

/// How long a launcher that is done waits for what it sweeps.
const SWEEPING: Duration = Duration::from_secs(20);

/// Runs until told to stop; answers the exit code.
pub(crate) async fn run(wish: Wish, file: Option<PathBuf>) -> u8 {
    let config = match settings::config(wish, file) {
        Ok(config) => config,
        Err(faults) => {
            tell_error(&faults.to_string());
            return EXIT_BAD_CONFIGURATION;
        }
    };
    match launch(config).await {
        Ok(code) => code,
        Err(error) => {
            tell_error(&format!("code-workers-launcher: {error:#}"));
            1
        }
    }
}

async fn launch(config: Config) -> anyhow::Result<u8> {
    let mut signals = Signals::new()?;
    if let Kind::None = config.kind {
        tell::mark("[no sandbox] ");
    }
    outbox::can_be_read(&config.home.folders.run)?;
    let runtime = probe(&config).await?;
    for warning in runtime.warnings() {
        tell_error(&format!("warning: {warning}"));
    }
    let mut sweeping = sweep(&config.home, &config.queue);
    sweep_stores(&config.home, &work_stores(&config));
    let (sender, mut happened) = mpsc::channel(64);
    let mut launcher = Launcher::new(config, runtime, sender);
    loop {
        let again = match launcher.pool.decide(Instant::now()) {
            Decision::Done if launcher.keepers.is_empty() => {
                let swept = async { while sweeping.join_next().await.is_some() {} };
                // What is not done by then, the next launcher does.
                let _ = tokio::time::timeout(SWEEPING, swept).await;
                break;
            }
            Decision::Start(number) => {
                (0..number).for_each(|_| launcher.start());
                None
            }
            Decision::Wait(time) => Some(time),
            Decision::Nothing | Decision::Done => None,
        };
        let working = launcher.count(&State::Working);
        launcher.shutdown.working(working, Instant::now());
        let action = tokio::select! {
            Some(happened) = happened.recv() => {
                launcher.on(happened).await;
                Action::Nothing
            }
            () = signals.next() => launcher.shutdown.signal(working, Instant::now()),
            () = at(launcher.shutdown.until()) => launcher.shutdown.time_is_up(Instant::now()),
            () = at(again) => Action::Nothing,
        };
        if action == Action::Leave {
            break;
        }
        launcher.act(action, working).await;
    }
    Ok(launcher.exit)
}

/// Finds out what the machine can do for the kind that was asked for, and for no other.
pub(crate) async fn probe(config: &Config) -> anyhow::Result<Runtime> {
    let scratch = config.home.folders.run.join(format!("probe-{}", std::process::id()));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&scratch);
    made.with_context(|| format!("cannot make {}", scratch.display()))?;
    let runtime = try_out(config, &scratch).await;
    std::fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    runtime
}

async fn try_out(config: &Config, scratch: &Path) -> anyhow::Result<Runtime> {
    Ok(match &config.kind {
        Kind::Gvisor { runsc, .. } => Runtime::Gvisor(Runsc::probe(runsc, scratch).await?),
        Kind::Docker { runtime, image, network } => {
            let knock = Knock { program: config.worker.clone(), arguments: vec!["knock".to_owned()] };
            let docker = Docker::probe(Path::new("docker"), runtime, image, &knock, scratch).await?;
            match network {
                Some(network) => Runtime::Docker(docker.join(policy::joined(config, network)?).await?),
                None => Runtime::Docker(docker),
            }
        }
        Kind::Fortress { agent, image } => {
            Runtime::Fortress(Fortress::probe(agent, image, config.queue.as_str())?)
        }
        Kind::None => {
            let bare = Bare::probe()?;
            doors_in_reach(&config.home.folders)?;
            Runtime::None(bare)
        }
    })
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

struct Launcher {
    config: Config,
    runtime: Runtime,
    pool: Pool,
    shutdown: Shutdown,
    keepers: HashMap<WorkerId, Keeper>,
    sender: mpsc::Sender<Happened>,
    /// No new sandboxes from here on.
    draining: CancellationToken,
    /// Whether it was said that the coordinator is away.
    unreachable: bool,
    exit: u8,
}

/// A keeper that runs.
struct Keeper {
    /// Its standard input.
    orders: Option<ChildStdin>,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Starting,
    Waiting,
    Working,
    /// The sandbox is gone; the keeper delivers and clears away.
    Ended,
}

impl Launcher {
    fn new(config: Config, runtime: Runtime, sender: mpsc::Sender<Happened>) -> Self {
        Self {
            pool: Pool::new(config.parallel),
            shutdown: Shutdown::new(config.drain),
            config,
            runtime,
            sender,
            keepers: HashMap::new(),
            draining: CancellationToken::new(),
            unreachable: false,
            exit: 0,
        }
    }

    fn start(&mut self) {
        self.pool.started();
        let (config, runtime, sender) = (self.config.clone(), self.runtime.clone(), self.sender.clone());
        let draining = self.draining.clone();
        tokio::spawn(async move {
            let happened = tokio::select! {
                kept = start_when_reachable(&config, &runtime, &sender) => Happened::Started(Box::new(kept)),
                () = draining.cancelled() => Happened::NotStarted,
            };
            let _ = sender.send(happened).await;
        });
    }

    async fn on(&mut self, happened: Happened) {
        match happened {
            Happened::NotStarted => self.pool.ended(),
            Happened::Unreachable(error) => self.unreachable(&error),
            Happened::Started(kept) => match *kept {
                Ok(kept) => self.kept(kept).await,
                Err(NotKept::Unreachable(error)) => self.unreachable(&error),
                Err(NotKept::Refused(error)) => {
                    tell_error(&format!("code-workers-launcher: the coordinator refuses: {error}"));
                    self.exit = EXIT_REFUSED;
                    self.pool.ended();
                    self.drain().await;
                }
                Err(NotKept::Here(error)) => self.failed(&format!("{error:#}")),
            },
            Happened::News(worker, News::Started) => self.waiting(&worker),
            Happened::News(worker, News::Leased(task)) => {
                tell(&format!("{task}: taken by {worker}"));
                self.pool.took_a_task();
                self.set(&worker, State::Working);
            }
            Happened::News(worker, News::Stopped(stopped)) => self.stopped(&worker, stopped).await,
            Happened::KeeperGone(worker, left) => self.keeper_gone(&worker, left),
        }
    }

    fn unreachable(&mut self, error: &ClientError) {
        if !self.unreachable {
            self.unreachable = true;
            tell(&format!("waiting for the coordinator: {error} (`code-workers up` starts it)"));
        }
    }

    fn failed(&mut self, why: &str) {
        if let Some(delay) = self.pool.failed(Instant::now()) {
            tell(&format!("no sandbox: {why}; next try in {} s", delay.as_secs()));
        }
    }

    fn set(&mut self, worker: &WorkerId, state: State) {
        if let Some(keeper) = self.keepers.get_mut(worker) {
            keeper.state = state;
        }
    }

    fn count(&self, state: &State) -> usize {
        self.keepers.values().filter(|keeper| keeper.state == *state).count()
    }

    async fn kept(&mut self, kept: Kept) {
        if std::mem::take(&mut self.unreachable) {
            tell("the coordinator is there");
        }
        let Kept { worker, folder, mut keeper, watch } = kept;
        let orders = keeper.stdin.take();
        self.keepers.insert(worker.clone(), Keeper { orders, state: State::Starting });
        tokio::spawn(attend(
            worker.clone(),
            folder,
            keeper,
            watch,
            self.config.home.clone(),
            self.sender.clone(),
        ));
        if self.pool.is_draining() {
            self.order(&worker, Order::Drain).await;
        }
    }

    fn waiting(&mut self, worker: &WorkerId) {
        self.set(worker, State::Waiting);
        if self.count(&State::Starting) == 0 && !self.pool.is_draining() {
            let waiting = count(self.count(&State::Waiting), "sandbox waits", "sandboxes wait");
            tell(&format!("{waiting} for {} ({})", self.config.queue, self.runtime.describe()));
        }
    }

    async fn stopped(&mut self, worker: &WorkerId, stopped: Stopped) {
        self.set(worker, State::Ended);
        let why = stopped.why();
        match (&stopped.task, self.pool.is_draining()) {
            (Some(task), _) => {
                self.pool.ended();
                tell(&format!("{task}: {}", stopped.told()));
                if self.config.once {
                    self.drain().await;
                }
            }
            (None, true) => self.pool.ended(),
            (None, false) => self.failed(&format!("it ended before it had a task: {why}")),
        }
    }

    fn keeper_gone(&mut self, worker: &WorkerId, left: Result<(), String>) {
        let ended = self.keepers.remove(worker).is_some_and(|keeper| keeper.state == State::Ended);
        if !ended {
            self.failed(&format!("the keeper of {worker} died"));
        }
        if let Err(why) = left {
            tell_error(&format!("warning: {worker}: {why}"));
        }
    }

    async fn act(&mut self, action: Action, working: usize) {
        match action {
            Action::Drain => {
                self.drain().await;
                if working > 0 {
                    let (tasks, most) =
                        (count(working, "task goes", "tasks go"), self.config.drain.as_secs());
                    tell(&format!("{tasks} on, for {most} s at most: a second signal ends it"));
                }
            }
            Action::End => {
                tell(&format!("ending {}", count(working, "task", "tasks")));
                self.order_all(Order::End).await;
            }
            Action::Nothing | Action::Leave => {}
        }
    }

    async fn drain(&mut self) {
        if !self.pool.is_draining() {
            self.pool.drain();
            self.draining.cancel();
            self.order_all(Order::Drain).await;
        }
    }

    async fn order_all(&mut self, order: Order) {
        let workers: Vec<_> = self.keepers.keys().cloned().collect();
        for worker in workers {
            self.order(&worker, order).await;
        }
    }

    async fn order(&mut self, worker: &WorkerId, order: Order) {
        let Some(orders) = self.keepers.get_mut(worker).and_then(|keeper| keeper.orders.as_mut()) else {
            return;
        };
        let Ok(line) = serde_json::to_string(&order) else { return };
        // A keeper that is gone is told of by its own end.
        if let Err(error) = orders.write_all(format!("{line}\n").as_bytes()).await {
            tracing::debug!(%worker, %error, "cannot give an order");
        }
    }
}
