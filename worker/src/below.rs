//! The processes below another one, for where the agent has no user of its own.

use std::{
    collections::HashMap,
    fs, io,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, getpid, kill_process},
};

/// How long what was killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Signals every process below `root` but this one. `root` takes in the orphans of all that is below it, so that
/// none gets away. With SIGKILL, none is left afterwards.
///
/// # Errors
/// When processes are left.
pub(crate) fn signal_all(root: Pid, signal: Signal) -> io::Result<()> {
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let below = below(root, getpid());
        if signal != Signal::KILL {
            return below.into_iter().try_for_each(|pid| send(pid, signal));
        }
        if below.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("processes are left that SIGKILL does not end"));
        }
        // Stopped first: what is stopped starts no other.
        below.iter().try_for_each(|pid| send(*pid, Signal::STOP))?;
        below.into_iter().try_for_each(|pid| send(pid, Signal::KILL))?;
        std::thread::yield_now();
    }
}

fn send(pid: Pid, signal: Signal) -> io::Result<()> {
    match kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What lives below `root`, without `spared`.
fn below(root: Pid, spared: Pid) -> Vec<Pid> {
    let parents: HashMap<Pid, Pid> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            Some((pid, living_parent(&stat)?))
        })
        .collect();
    let is_below = |pid: Pid| {
        let mut at = pid;
        // As many steps as there are processes: the list is not of one moment, and may hold a circle.
        for _ in 0..parents.len() {
            match parents.get(&at) {
                Some(parent) if *parent == root => return true,
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(|pid| *pid != spared && is_below(*pid)).collect()
}

/// The parent's id in a line of proc_pid_stat(5), unless the process has ended. The name before it may hold anything.
fn living_parent(stat: &str) -> Option<Pid> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?;
    let parent = Pid::from_raw(fields.next()?.parse().ok()?);
    parent.filter(|_| !matches!(state, "Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_stands_after_whatever_name() {
        let parent = |stat| living_parent(stat).map(|pid| pid.as_raw_nonzero().get());
        assert_eq!(parent("7 (a b) S 3 7 7 0"), Some(3));
        assert_eq!(parent("7 (a) S 9 (b) R 4 7"), Some(4));
        assert_eq!(parent("7 (a) Z 3 7 7 0"), None);
        assert_eq!(parent("1 (init) S 0 1 1"), None);
    }
}
