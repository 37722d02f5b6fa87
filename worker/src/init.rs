//! PID 1: as little as can be, and no runtime. (In a runtime, waiting for any child would steal the statuses
//! that it waits for itself.)

use std::{
    ffi::OsStr,
    io,
    net::TcpListener,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use protocol::inside;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait,
};
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    around::{Around, GATEWAY},
    below,
    exit::Exit,
};

/// Starts the relays and the worker, and ends with the worker's exit code (128 + the signal's number where a
/// signal ended it). Everything else in the sandbox ends with PID 1.
#[must_use]
pub fn run() -> ExitCode {
    start_log();
    match Around::from_env(|name| std::env::var(name).ok()).and_then(|around| live(&around)) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("init cannot go on: {error}");
            Exit::Broken.into()
        }
    }
}

/// How long a relay rests that has ended, before it is started again; doubled each time, up to [`LONGEST_REST`].
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest rest. A relay that has run for as long begins with the first rest again.
const LONGEST_REST: Duration = Duration::from_secs(60);

fn live(around: &Around) -> io::Result<ExitCode> {
    let bare = matches!(around, Around::Nothing(_));
    if bare {
        set_child_subreaper(Some(getpid()))?;
    }
    let (relays, worker) = doors_and_worker(around)?;
    let code = supervise(relays, worker)?;
    if bare {
        // Nothing ends with this process there.
        below::signal_all(getpid(), Signal::KILL)?;
    }
    Ok(code)
}

fn doors_and_worker(around: &Around) -> io::Result<(Vec<Relay>, Command)> {
    let myself = std::env::current_exe()?;
    let mut worker = Command::new(&myself);
    worker.arg("work").stdin(Stdio::null());
    let door = |door, address: &str| Relay::new(door, relay(around, &myself, address, door));
    let relays = match around {
        Around::Sandbox => vec![
            door(inside::COORDINATOR_DOOR, inside::COORDINATOR_TCP),
            door(inside::GATEWAY_DOOR, inside::GATEWAY_TCP),
        ],
        Around::Network(_) => Vec::new(),
        Around::Nothing(_) => {
            // This machine's ports are not ours alone: one that is free now, and taken at once.
            let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
            worker.env(GATEWAY, format!("http://{address}"));
            vec![door(inside::GATEWAY_DOOR, &address)]
        }
    };
    Ok((relays, worker))
}

/// Starts the relays and the worker, hands signals on, takes in orphans, until the worker has ended.
pub(crate) fn supervise(mut relays: Vec<Relay>, mut worker: Command) -> io::Result<ExitCode> {
    // Before there are children, so that none ends unseen.
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM])?;
    relays.iter_mut().for_each(Relay::start);
    let worker = worker.spawn()?;
    let worker = pid_of(&worker).ok_or_else(|| io::Error::other("the worker has no process id"))?;
    // Signals can only be waited for without a limit: in a thread, so that a rest can end here.
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .spawn(move || signals.forever().try_for_each(|signal| sender.send(signal)))?;
    loop {
        let rest = relays.iter().filter_map(|relay| relay.rest_at(Instant::now())).min();
        match receiver.recv_timeout(rest.unwrap_or(LONGEST_REST)) {
            // It may have ended already.
            Ok(signal) if signal != SIGCHLD => drop(kill_process(worker, Signal::TERM)),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the signals ended")),
        }
        if let Some(code) = reap(worker, |pid| relays.iter_mut().for_each(|relay| relay.ended(pid))) {
            for relay in relays.iter().filter_map(|relay| relay.pid) {
                let _ = kill_process(relay, Signal::TERM);
            }
            return Ok(ExitCode::from(code));
        }
        let now = Instant::now();
        relays.iter_mut().filter(|relay| relay.rest_at(now) == Some(Duration::ZERO)).for_each(Relay::start);
    }
}

/// A door's relay, which is started again when it has ended. Without it the door is still open to the worker, who
/// dials the socket itself: so a relay that does not start is said, and no more.
pub(crate) struct Relay {
    door: &'static str,
    command: Command,
    /// While it runs.
    pid: Option<Pid>,
    started: Instant,
    /// When it may start again.
    next: Instant,
    rest: Duration,
}

impl Relay {
    fn new(door: &'static str, command: Command) -> Self {
        let now = Instant::now();
        Self { door, command, pid: None, started: now, next: now, rest: FIRST_REST }
    }

    fn start(&mut self) {
        self.started = Instant::now();
        let started = self.command.spawn();
        self.pid = started.as_ref().ok().and_then(pid_of);
        if let Err(error) = started {
            tracing::warn!("the relay for {} does not start: {error}", self.door);
            self.rest_from(self.started);
        }
    }

    /// Takes note when it is the one that ended.
    fn ended(&mut self, pid: Pid) {
        if self.pid == Some(pid) {
            self.pid = None;
            self.rest_from(Instant::now());
            tracing::warn!("the relay for {} ended", self.door);
        }
    }

    fn rest_from(&mut self, now: Instant) {
        if now.duration_since(self.started) >= LONGEST_REST {
            self.rest = FIRST_REST;
        }
        self.next = now + self.rest;
        self.rest = (self.rest * 2).min(LONGEST_REST);
    }

    /// How long until it is to be started; `None` while it runs.
    fn rest_at(&self, now: Instant) -> Option<Duration> {
        self.pid.is_none().then(|| self.next.saturating_duration_since(now))
    }
}

fn relay(around: &Around, myself: &Path, listen: &str, door: &str) -> Command {
    let user = inside::RELAY_UID.to_string();
    let program = around.path(inside::BIN).join("code-workers-relay");
    let listen = format!("tcp://{listen}");
    let dial = format!("unix://{}", around.doors().join(door).display());
    let mut command = if let Around::Nothing(_) = around {
        Command::new(program)
    } else {
        let mut command = Command::new(myself);
        command.args(["as-user", "--uid", &user, "--gid", &user, "--"].map(OsStr::new)).arg(program);
        command
    };
    command.args(["--listen", &listen, "--dial", &dial]).stdin(Stdio::null());
    command
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Takes every child that has ended, orphans too, and tells of each; the worker's exit code when it is among them.
fn reap(worker: Pid, mut ended: impl FnMut(Pid)) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == worker {
            code = Some(exit_code(status));
        }
        ended(pid);
    }
    code
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// The log of `init` and `work`: standard error, which the launcher keeps.
pub(crate) fn start_log() {
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).log_internal_errors(false).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_ended_is_started_again_and_rests_longer_each_time() {
        let mut relay = Relay::new("some.sock", Command::new("true"));
        let mut rests = Vec::new();
        for _ in 0..9 {
            relay.start();
            let pid = relay.pid.unwrap();
            assert_eq!(relay.rest_at(Instant::now()), None);
            relay.ended(Pid::INIT);
            assert_eq!(relay.pid, Some(pid), "another one ended");
            rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap();
            rests.push(relay.rest.as_secs());
            relay.ended(pid);
            assert_eq!(relay.rest_at(relay.next), Some(Duration::ZERO));
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        relay.rest_from(relay.started + LONGEST_REST);
        assert_eq!(relay.next, relay.started + LONGEST_REST + FIRST_REST);
    }
}
