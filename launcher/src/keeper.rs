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
use crate::step::{Heard, Life, Step};
use crate::{outbox, relays};

/// How long a sandbox that was killed may take to end. One whose processes are stuck in gVisor does not.
const DEAD_WITHIN: Duration = Duration::from_secs(10);

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
    let doors = plan.runtime.has_mounts();
    let relays = doors.then(|| relays::open(&plan.relay, folder, &home.folders, &home.keys)).transpose()?;
    let stopped = live(folder, &plan, &mut heard).await;
    drop(relays);
    say(&News::Stopped(stopped.clone()));
    let end = WorkerEnd { exit: stopped.exit, reason: stopped.reason };
    tokio::select! {
        finished = finish(folder, home, &end) => Ok(finished?),
        () = killed(&mut heard) => anyhow::bail!("told to leave off; the next launcher of this queue goes on"),
    }
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
    let mut sandbox = match sandbox::start(&plan.policy, &plan.runtime, &folder.sandbox()).await {
        Ok(sandbox) => sandbox,
        Err(error) => return not_started(error.to_string()),
    };
    say(&News::Started);
    let mut life = if plan.runtime.has_mounts() { Life::default() } else { Life::unseen() };
    match watch(&mut sandbox, &outbox, changes, heard, &mut life).await {
        Ok(exit) => stopped(exit, &sandbox, &outbox, &life),
        Err(error) => not_started(format!("cannot wait for the sandbox: {error}")),
    }
}

enum Happened {
    Ended(std::io::Result<Exit>),
    OutboxChanged,
    Heard(Heard),
    TimeIsUp,
}

async fn watch(
    sandbox: &mut Sandbox,
    outbox: &Outbox,
    mut changes: mpsc::Receiver<()>,
    heard: &mut mpsc::Receiver<Heard>,
    life: &mut Life,
) -> std::io::Result<Exit> {
    loop {
        let happened = tokio::select! {
            exit = sandbox.wait() => Happened::Ended(exit),
            Some(()) = changes.recv() => Happened::OutboxChanged,
            Some(heard) = heard.recv() => Happened::Heard(heard),
            () = at(life.until()) => Happened::TimeIsUp,
        };
        let now = Instant::now();
        let step = match happened {
            Happened::Ended(exit) => return exit,
            Happened::OutboxChanged => {
                if let Some(note) = outbox::lease(outbox) {
                    let task = note.lease.task.clone();
                    if life.leased(note, now) {
                        say(&News::Leased(task));
                    }
                }
                if outbox::is_delivered(outbox) {
                    life.delivered(now);
                }
                Step::Nothing
            }
            Happened::Heard(heard) => life.heard(heard, now),
            Happened::TimeIsUp => life.time_is_up(now),
        };
        match step {
            Step::Nothing => {}
            Step::Terminate => {
                if let Err(error) = sandbox.signal(Signal::Terminate).await {
                    tracing::debug!(%error, "cannot signal the sandbox");
                }
            }
            Step::Kill => {
                if let Err(error) = sandbox.signal(Signal::Kill).await {
                    tracing::warn!(%error, "cannot kill the sandbox; what runs of it is ended by force");
                    return Ok(Exit::Signal(9));
                }
                let gone = tokio::time::timeout(DEAD_WITHIN, sandbox.wait()).await;
                return gone.unwrap_or_else(|_| {
                    tracing::warn!("the sandbox does not end; what runs of it is ended by force");
                    Ok(Exit::Signal(9))
                });
            }
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn stopped(exit: Exit, sandbox: &Sandbox, outbox: &Outbox, life: &Life) -> Stopped {
    let last_line = sandbox.last_line();
    let (exit, reason, detail) = match exit {
        Exit::Code(code) => (Some(code.into()), "exited", last_line),
        Exit::Signal(signal) => (Some(128 + i32::from(signal)), "killed", last_line),
        Exit::OutOfMemory => (Some(137), "oom", None),
        Exit::Failed(reason) => (None, "start_failed", Some(reason)),
    };
    Stopped {
        exit,
        reason: if life.overrun() { "overrun" } else { reason }.to_owned(),
        detail,
        task: outbox::lease(outbox).map(|note| note.lease.task),
        outcome: outbox::report(outbox).ok().flatten().map(|held| held.report.outcome),
    }
}

/// Orders from the launcher, its end, and signals.
fn listen() -> std::io::Result<mpsc::Receiver<Heard>> {
    let (sender, receiver) = mpsc::channel(4);
    let terminate = signal(SignalKind::terminate())?;
    let stdin = pipe::Receiver::from_owned_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    tokio::spawn(hear(stdin, terminate, sender));
    Ok(receiver)
}

/// SIGTERM says what the launcher would. While it is there it has its own say, and a service manager sends the
/// signal to all of a unit's processes: then it drains. After that the first ends the sandbox, each further one
/// by force.
async fn hear(
    orders: pipe::Receiver,
    mut terminate: tokio::signal::unix::Signal,
    sender: mpsc::Sender<Heard>,
) {
    let mut lines = BufReader::new(orders).lines();
    let mut launcher_gone = false;
    let mut on_signal = Heard::Order(Order::Drain);
    loop {
        let heard = tokio::select! {
            line = lines.next_line(), if !launcher_gone => match line.ok().flatten() {
                Some(line) => serde_json::from_str(&line).ok().map(Heard::Order),
                None => {
                    launcher_gone = true;
                    on_signal = Heard::Order(Order::End);
                    Some(Heard::LauncherGone)
                }
            },
            _ = terminate.recv() => {
                let heard = on_signal;
                if launcher_gone {
                    on_signal = Heard::Kill;
                }
                Some(heard)
            }
        };
        let Some(heard) = heard else { continue };
        if sender.send(heard).await.is_err() {
            return;
        }
    }
}

/// Until the keeper is told to leave off at once.
async fn killed(heard: &mut mpsc::Receiver<Heard>) {
    while let Some(heard) = heard.recv().await {
        if heard == Heard::Kill {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// A launcher that is gone does not hear it.
fn say(news: &News) {
    let mut out = std::io::stdout().lock();
    if let Ok(line) = serde_json::to_string(news) {
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};

    async fn next(heard: &mut mpsc::Receiver<Heard>) -> Heard {
        tokio::time::timeout(Duration::from_secs(10), heard.recv()).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn signals_are_heard_before_and_after_the_end_of_the_launcher() {
        let (reader, launcher) = std::io::pipe().unwrap();
        let orders = pipe::Receiver::from_owned_fd(reader.into()).unwrap();
        let (sender, mut heard) = mpsc::channel(4);
        tokio::spawn(hear(orders, signal(SignalKind::terminate()).unwrap(), sender));
        let terminate = || kill_process(getpid(), Signal::TERM).unwrap();
        terminate();
        assert_eq!(next(&mut heard).await, Heard::Order(Order::Drain));
        drop(launcher);
        assert_eq!(next(&mut heard).await, Heard::LauncherGone);
        terminate();
        assert_eq!(next(&mut heard).await, Heard::Order(Order::End));
        terminate();
        assert_eq!(next(&mut heard).await, Heard::Kill);
        terminate();
        killed(&mut heard).await;
    }
}
