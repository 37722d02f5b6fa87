//! Watches the sandbox's limits beside the agent: names those that struck, and ends the agent where the next thing
//! to end would be the whole sandbox, worker and results included.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use protocol::{inside::SandboxLimits, report::Limit};
use rustix::{
    fs::statvfs,
    process::{Resource, getrlimit},
    system::sysinfo,
};
use tokio::{process::Command, time::timeout};

use crate::{
    agent_user,
    control::{Stop, Stopper},
    places::{Places, Reach},
};

/// Bytes that a sandbox can fill in a millisecond, twice what was measured.
const BYTES_PER_MS: u64 = 2 << 20;
/// How soon limits are looked at again, at the earliest and at the latest.
const SOONEST: Duration = Duration::from_millis(10);
const LATEST: Duration = Duration::from_millis(100);
/// So near to the limit of processes a program that wants one more is refused: what starts and ends between two
/// looks is not seen.
const NEAR: u64 = 4;
/// The time between two looks at open files: what opens too many and ends between them is not seen.
const OPEN_REST: Duration = Duration::from_millis(500);
/// How long files are not counted at least after they were, and how many times the time that it took.
const COUNT_REST: Duration = Duration::from_secs(5);
const COUNT_REST_TIMES: u32 = 20;
/// How long counting may take. An agent can stop the helper that counts, which runs as its user.
const COUNT_WITHIN: Duration = Duration::from_secs(60);

/// The limits that struck so far.
#[derive(Debug, Clone, Default)]
pub struct Struck(Arc<Mutex<BTreeSet<Limit>>>);

impl Struck {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> BTreeSet<Limit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, limit: Limit) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(limit);
    }
}

/// Looks at the limits while the agent runs.
#[derive(Debug, Clone)]
pub struct Guard {
    places: Places,
    limits: SandboxLimits,
    stopper: Stopper,
    struck: Struck,
}

impl Guard {
    /// A guard, and what it finds.
    #[must_use]
    pub fn new(places: Places, limits: SandboxLimits, stopper: Stopper) -> (Self, Struck) {
        let struck = Struck::default();
        (Self { places, limits, stopper, struck: struck.clone() }, struck)
    }

    /// Looks at memory, processes and room until it is dropped. To be called when no process of the agent runs
    /// yet: what there is besides is told from what it starts.
    pub async fn watch(self) {
        let besides = u64::from(sysinfo().procs);
        // RLIMIT_NPROC counts for each user alone, so that the agent has as many as we.
        let processes = getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
        loop {
            let mut rest = LATEST;
            if let Some(memory) = self.limits.memory_bytes.and_then(memory) {
                rest = memory.look_again();
                if memory.is_full() {
                    self.end(Limit::Memory);
                    agent_user::kill_now(&self.places);
                }
            }
            if u64::from(sysinfo().procs).saturating_sub(besides) + NEAR >= processes {
                self.struck.add(Limit::Processes);
            }
            for folder in [&self.places.work, &self.places.scratch] {
                if statvfs(folder).is_ok_and(|room| room.f_bavail == 0) {
                    self.struck.add(Limit::Disk);
                }
            }
            tokio::time::sleep(rest).await;
        }
    }

    /// Looks for a process of the agent's that has as many files open as it may, until it is dropped. Where the agent
    /// has no user of its own, what others have open would count.
    pub async fn count_open(self) {
        let Some(most) = getrlimit(Resource::Nofile).current.filter(|_| self.places.reach == Reach::User)
        else {
            return;
        };
        loop {
            tokio::time::sleep(OPEN_REST).await;
            // Only the agent's user may count them, and starting it takes time: the size of a table is told to all.
            if !tables().any(|size| size >= most) {
                continue;
            }
            let counted = timeout(COUNT_WITHIN, self.ask(&["count-open"])).await;
            if counted.is_ok_and(|count| count.is_some_and(|count| count + NEAR >= most)) {
                self.struck.add(Limit::OpenFiles);
            }
        }
    }

    /// Counts the files in the work tree again and again, until it is dropped.
    pub async fn count_files(self) {
        let Some(most) = self.limits.work_files else { return };
        let mut rest = COUNT_REST;
        loop {
            tokio::time::sleep(rest).await;
            let began = Instant::now();
            match timeout(COUNT_WITHIN, self.count(most.saturating_add(1))).await {
                Ok(Some(count)) if count > most => self.end(Limit::Files),
                Ok(_) => {}
                Err(_) => tracing::warn!("the files in the work tree could not be counted in time"),
            }
            rest = COUNT_REST.max(began.elapsed() * COUNT_REST_TIMES);
        }
    }

    async fn count(&self, most: u64) -> Option<u64> {
        self.ask(&["count-files", "--most", &most.to_string(), &self.places.work.to_string_lossy()]).await
    }

    /// Has a helper count as the agent's user.
    async fn ask(&self, arguments: &[&str]) -> Option<u64> {
        let mut command: Command = agent_user::command(&self.places, &self.places.helper);
        command.args(arguments);
        let output = command.stdout(std::process::Stdio::piped()).output().await.ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    }

    fn end(&self, limit: Limit) {
        self.struck.add(limit);
        self.stopper.stop(Stop::Limit(limit));
    }
}

/// How many files fit into each process's table (`FDSize`, proc_pid_status(5)): at least as many as it has open.
fn tables() -> impl Iterator<Item = u64> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let status = |pid: fs::DirEntry| fs::read_to_string(pid.path().join("status")).ok();
    processes.filter_map(status).filter_map(|status| {
        status.lines().find_map(|line| line.strip_prefix("FDSize:"))?.trim().parse().ok()
    })
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    used: u64,
    most: u64,
}

impl Memory {
    fn is_full(self) -> bool {
        self.used >= self.most
    }

    /// Before it can be full.
    fn look_again(self) -> Duration {
        let left = self.most.saturating_sub(self.used);
        Duration::from_millis(left / BYTES_PER_MS).clamp(SOONEST, LATEST)
    }
}

/// What all inside use together: in gVisor, `MemAvailable` is what the host has, less what programs and their files
/// in memory take. `/work` does not count where it is kept on disk.
fn memory(most: u64) -> Option<Memory> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let (total, available) = meminfo(&text)?;
    Some(Memory { used: total.saturating_sub(available), most })
}

/// Total and available, in bytes: proc_meminfo(5).
fn meminfo(text: &str) -> Option<(u64, u64)> {
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some((field("MemTotal:")?, field("MemAvailable:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_looked_at_before_it_can_be_full() {
        let most = 1_000 << 20;
        let at = |mib: u64| Memory { used: mib << 20, most };
        assert_eq!(at(0).look_again(), LATEST);
        assert_eq!(at(960).look_again(), Duration::from_millis(20));
        assert_eq!(at(999).look_again(), SOONEST);
        assert!(!at(999).is_full() && at(1_000).is_full());
    }

    #[test]
    fn the_lines_of_meminfo_are_kibibytes() {
        let text = "MemTotal:       2048 kB\nMemFree:    1 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(meminfo(text), Some((2 << 20, 1 << 20)));
        assert_eq!(meminfo("MemTotal: 1 kB\n"), None);
    }
}
