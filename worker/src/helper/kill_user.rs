//! `kill-user`: ends everything that a user has started.

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};

use super::{HELPER_FAILED, become_user::become_user, fail};
use crate::command_line::User;

/// How long what was killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Exits 0 when the signal was sent (and, for SIGKILL, when no process of the user is left).
#[must_use]
pub fn kill_user(user: User, signal: i32) -> ExitCode {
    let Some(signal) = Signal::from_named_raw(signal) else {
        return fail(HELPER_FAILED, format_args!("there is no signal {signal}"));
    };
    // Before anything is sent: as user 0 the same call would reach every process there is.
    if let Err(error) = become_user(user) {
        return fail(HELPER_FAILED, format_args!("cannot become user {}: {error}", user.uid));
    }
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        if let Err(error) = signal_all(signal) {
            return fail(HELPER_FAILED, format_args!("cannot signal: {error}"));
        }
        if signal != Signal::KILL || !any_alive(user.uid) {
            return ExitCode::SUCCESS;
        }
        // What forks faster than it is killed is killed again.
        if Instant::now() > deadline {
            return fail(HELPER_FAILED, "processes are left that SIGKILL does not end");
        }
        std::thread::yield_now();
    }
}

/// kill(2) with -1: every process that the caller may signal, but itself and PID 1. rustix negates the group's
/// number, and 1 is what becomes -1. (Its answer does not say whether anybody was there: Linux answers 0 also
/// when all were another user's.)
fn signal_all(signal: Signal) -> rustix::io::Result<()> {
    match kill_process_group(Pid::INIT, signal) {
        Ok(()) | Err(Errno::SRCH | Errno::PERM) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether any process of the user but this one is there and not just waiting to be reaped.
fn any_alive(uid: u32) -> bool {
    let own = rustix::process::getpid();
    of_user(uid).any(|pid| pid != own)
}

/// The processes of a user that are not just waiting to be reaped.
pub(crate) fn of_user(uid: u32) -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        alive(&status, uid).then_some(pid)
    })
}

/// Fields of proc_pid_status(5).
fn alive(status: &str, uid: u32) -> bool {
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let real_uid = field("Uid:").split_whitespace().next().and_then(|uid| uid.parse().ok());
    real_uid == Some(uid) && !field("State:").starts_with(['Z', 'X'])
}
