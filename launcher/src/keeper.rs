//! A keeper: the process that looks after one sandbox, so that a task outlives its launcher.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use protocol::inside::Outbox;
use protocol::settings::EXIT_BAD_CONFIGURATION;
use protocol::worker::WorkerEnd;
use sandbox::{Exit, Sandbox, Signal};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::finish::finish;
use crate::folder::{Plan, SandboxFolder};
use crate::lines::{News, Order, Stopped};
use crate::settings::{self, Home};
use crate::step::{self, Heard, Step, step};
use crate::{outbox, relays};

/// Keeps the sandbox whose plan is in `folder` until nothing of it is left.
pub(crate) async fn run(folder: &Path, file: Option<&Path>) -> u8 {
    // Away from the terminal: its Ctrl-C is for the launcher.
    let _ = rustix::process::setsid();
    let home = match settings::home(file) {
        Ok(home) => home,
        Err(faults) => {
            tracing::error!("{faults}");
            return EXIT_BAD_CONFIGURATION;
        }
    };
    match keep(&SandboxFolder::at(folder), &home).await {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!("{error:#}");
            1
        }
    }
}

async fn keep(folder: &SandboxFolder, home: &Home) -> anyhow::Result<()> {
    let _watch = folder.watch()?;
    let plan = folder.plan()?;
    let mut heard = listen()?;
    let relays = relays::open(&plan.relay, folder, &home.folders)?;
    let stopped = live(folder, &plan, &mut heard).await;
    drop(relays);
    say(&News::Stopped(stopped.clone()));
    let end = WorkerEnd { exit: stopped.exit, reason: stopped.reason };
    Ok(finish(folder, home, &end).await?)
}

/// The sandbox's life, from start to end.
async fn live(folder: &SandboxFolder, plan: &Plan, heard: &mut mpsc::Receiver<Heard>) -> Stopped {
    let outbox = folder.outbox();
    let not_started = |detail: String| Stopped {
        exit: None,
        reason: "start_failed".to_owned(),
        detail: Some(detail),
        task: None,
        outcome: None,
    };
    let changes = match outbox::changes(&outbox) {
        Ok(changes) => changes,
        Err(error) => return not_started(format!("cannot watch the outbox: {error}")),
    };
    let mut sandbox = match sandbox::start(&plan.policy, &plan.runsc, &folder.sandbox()).await {
        Ok(sandbox) => sandbox,
        Err(error) => return not_started(error.to_string()),
    };
    say(&News::Started);
    match watch(&mut sandbox, &outbox, changes, heard).await {
        Ok(exit) => stopped(exit, &sandbox, &outbox),
        Err(error) => not_started(format!("cannot wait for the sandbox: {error}")),
    }
}

enum Happened {
    Ended(std::io::Result<Exit>),
    OutboxChanged,
    Heard(Heard),
    TimeIsUp,
}

/// What comes when the time is up.
enum Next {
    Never,
    Terminate(Instant),
    Kill(Instant),
}

impl Next {
    async fn is_due(&self) {
        match self {
            Self::Never => std::future::pending().await,
            Self::Terminate(time) | Self::Kill(time) => tokio::time::sleep_until(*time).await,
        }
    }
}

async fn watch(
    sandbox: &mut Sandbox,
    outbox: &Outbox,
    mut changes: mpsc::Receiver<()>,
    heard: &mut mpsc::Receiver<Heard>,
) -> std::io::Result<Exit> {
    let mut has_task = false;
    let mut next = Next::Never;
    loop {
        let happened = tokio::select! {
            exit = sandbox.wait() => Happened::Ended(exit),
            Some(()) = changes.recv(), if !has_task => Happened::OutboxChanged,
            Some(heard) = heard.recv() => Happened::Heard(heard),
            () = next.is_due() => Happened::TimeIsUp,
        };
        match happened {
            Happened::Ended(exit) => return exit,
            Happened::OutboxChanged => {
                if let Some(lease) = outbox::lease(outbox) {
                    has_task = true;
                    say(&News::Leased(lease.task));
                }
            }
            Happened::Heard(heard) => match step(heard, has_task) {
                Step::Nothing => {}
                Step::End(grace) => next = terminate(sandbox, grace).await,
                Step::EndLater(time) => next = Next::Terminate(Instant::now() + time),
            },
            Happened::TimeIsUp if matches!(next, Next::Terminate(_)) => {
                next = terminate(sandbox, step::grace()).await;
            }
            Happened::TimeIsUp => {
                next = Next::Never;
                if let Err(error) = sandbox.signal(Signal::Kill).await {
                    tracing::warn!(%error, "cannot kill the sandbox; what runs of it is ended by force");
                    return Ok(Exit::Signal(9));
                }
            }
        }
    }
}

async fn terminate(sandbox: &Sandbox, grace: Duration) -> Next {
    if let Err(error) = sandbox.signal(Signal::Terminate).await {
        tracing::debug!(%error, "cannot signal the sandbox");
    }
    Next::Kill(Instant::now() + grace)
}

fn stopped(exit: Exit, sandbox: &Sandbox, outbox: &Outbox) -> Stopped {
    let last_line = sandbox.last_line();
    let (exit, reason, detail) = match exit {
        Exit::Code(code) => (Some(code.into()), "exited", last_line),
        Exit::Signal(signal) => (Some(128 + i32::from(signal)), "killed", last_line),
        Exit::OutOfMemory => (Some(137), "oom", None),
        Exit::Failed(reason) => (None, "start_failed", Some(reason)),
    };
    Stopped {
        exit,
        reason: reason.to_owned(),
        detail,
        task: outbox::lease(outbox).map(|lease| lease.task),
        outcome: outbox::report(outbox).ok().flatten().map(|held| held.report.outcome),
    }
}

/// Orders from the launcher, its end, and signals (a service manager sends them to all of a unit's processes).
fn listen() -> std::io::Result<mpsc::Receiver<Heard>> {
    let (sender, receiver) = mpsc::channel(4);
    let mut terminate = signal(SignalKind::terminate())?;
    let stdin = pipe::Receiver::from_owned_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdin).lines();
        loop {
            let heard = tokio::select! {
                line = lines.next_line() => match line.ok().flatten() {
                    Some(line) => serde_json::from_str(&line).ok().map(Heard::Order),
                    None => Some(Heard::LauncherGone),
                },
                _ = terminate.recv() => Some(Heard::Order(Order::Drain)),
            };
            let Some(heard) = heard else { continue };
            if sender.send(heard).await.is_err() || heard == Heard::LauncherGone {
                return;
            }
        }
    });
    Ok(receiver)
}

/// A launcher that is gone does not hear it.
fn say(news: &News) {
    let mut out = std::io::stdout().lock();
    if let Ok(line) = serde_json::to_string(news) {
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}
