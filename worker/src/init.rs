//! PID 1: as little as can be, and no runtime. (In a runtime, waiting for any child would steal the statuses
//! that it waits for itself.)

use std::{
    ffi::OsStr,
    io,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use protocol::inside;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::exit::Exit;

/// Starts the relays and the worker, and ends with the worker's exit code (128 + the signal's number where a
/// signal ended it). Everything else in the sandbox ends with PID 1.
#[must_use]
pub fn run() -> ExitCode {
    start_log();
    match supervise() {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("init cannot go on: {error}");
            Exit::Broken.into()
        }
    }
}

fn supervise() -> io::Result<ExitCode> {
    // Before there are children, so that none ends unseen.
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM])?;
    let myself = std::env::current_exe()?;
    let relays = [
        relay(&myself, inside::COORDINATOR_TCP, inside::COORDINATOR_DOOR),
        relay(&myself, inside::GATEWAY_TCP, inside::GATEWAY_DOOR),
    ];
    let worker = Command::new(&myself).arg("work").stdin(Stdio::null()).spawn()?;
    let worker = pid_of(&worker).ok_or_else(|| io::Error::other("the worker has no process id"))?;
    for signal in &mut signals {
        if signal != SIGCHLD {
            // It may have ended already.
            let _ = kill_process(worker, Signal::TERM);
        }
        if let Some(code) = reap(worker) {
            for relay in relays.iter().flatten().filter_map(pid_of) {
                let _ = kill_process(relay, Signal::TERM);
            }
            return Ok(ExitCode::from(code));
        }
    }
    Err(io::Error::other("the signals ended"))
}

/// Without its relay a door is still open to the worker, who dials the socket itself: so a relay that does not
/// start is said, and no more.
fn relay(myself: &Path, listen: &str, door: &str) -> Option<Child> {
    let user = inside::RELAY_UID.to_string();
    let program = Path::new(inside::BIN).join("code-workers-relay");
    let (listen, dial) = (format!("tcp://{listen}"), format!("unix://{}/{door}", inside::DOORS));
    let mut command = Command::new(myself);
    command.args(["as-user", "--uid", &user, "--gid", &user, "--"].map(OsStr::new)).arg(program);
    command.args(["--listen", &listen, "--dial", &dial]).stdin(Stdio::null());
    command.spawn().inspect_err(|error| tracing::warn!("the relay for {door} does not start: {error}")).ok()
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Takes every child that has ended, orphans too; the worker's exit code when it is among them.
fn reap(worker: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == worker {
            code = Some(exit_code(status));
        }
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
