//! What a launcher puts into a sandbox and what it takes out: paths inside, the worker's configuration,
//! the users, and the files of the outbox.

use std::{
    fmt,
    num::ParseIntError,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{AgentName, QueueName, TaskId, WorkerId},
    limits,
    report::Report,
    secret::Secret,
};

/// The folder of our programs inside, read-only.
pub const BIN: &str = "/opt/code-workers/bin";
/// The folder of agent files (`NAME.toml`) inside, read-only.
pub const AGENT_FILES: &str = "/opt/code-workers/agents";
/// The folder of installed agent CLIs inside, read-only: one folder an agent, each an npm prefix
/// (`NAME/node_modules/.bin/…`) or a folder with `bin/`.
pub const AGENT_PROGRAMS: &str = "/opt/agents";
/// [`WorkerConfig`] as JSON; 0600, of user 0.
pub const WORKER_CONFIG: &str = "/run/code-workers/config/worker.json";
/// The doors: `coordinator.sock` and `gateway.sock`; open to all inside.
pub const DOORS: &str = "/run/code-workers/doors";
/// A host folder for what must outlive the sandbox; 0700, the worker's.
pub const OUTBOX: &str = "/run/code-workers/outbox";
/// The repository's mirror, bare, read-only.
pub const MIRROR: &str = "/mirror.git";
/// The one place to write; the agent's.
pub const WORK: &str = "/work";

/// The agent's HOME: in memory, and not in the work tree, where it would be committed.
pub const HOME: &str = "/tmp/code-workers/home";

/// The coordinator's door.
pub const COORDINATOR_DOOR: &str = "coordinator.sock";
/// The gateway's door.
pub const GATEWAY_DOOR: &str = "gateway.sock";

/// Where the relay inside turns the coordinator's door into TCP.
pub const COORDINATOR_TCP: &str = "127.0.0.1:7222";
/// Where the relay inside turns the gateway's door into TCP.
pub const GATEWAY_TCP: &str = "127.0.0.1:4000";
/// The coordinator's address where the doors are on a network.
pub const COORDINATOR_URL: &str = "http://skia:7222";
/// The gateway's address for agents.
pub const GATEWAY_URL: &str = "http://authproxy:4000";

/// The user of init and worker.
pub const WORKER_UID: u32 = 0;
/// The user of the agent and all that it starts.
pub const AGENT_UID: u32 = 1001;
/// The user of the relays.
pub const RELAY_UID: u32 = 1002;

/// What a worker is told at its start. Paths are as they are inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// Who it is.
    pub worker_id: WorkerId,
    /// The queue that it takes tasks from.
    pub queue: QueueName,
    /// Opens the worker's door.
    pub token: Secret,
    /// For tasks that name no agent.
    pub default_agent: AgentName,
    /// What its sandbox may use.
    #[serde(default)]
    pub limits: SandboxLimits,
}

/// Limits that the worker watches, so that the agent ends before they take the worker too, and its work comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxLimits {
    /// Bytes of memory of all programs inside together. The sandbox itself has somewhat more. `None`: not watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Files and folders in `/work`, the checkout's own included. `None`: not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work_files: Option<u64>,
    /// Bytes of the program's output that are kept as its log.
    pub output_bytes: u64,
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self { memory_bytes: None, work_files: None, output_bytes: limits::LOG_BYTES }
    }
}

/// The files of an outbox. The worker writes each whole (under another name, flushed, then renamed), but the events.
#[derive(Debug, Clone)]
pub struct Outbox {
    folder: PathBuf,
}

/// `lease.json`: written as soon as a lease came. Where it stands, the sandbox has a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseNote {
    /// The lease.
    #[serde(flatten)]
    pub lease: HeldLease,
    /// Seconds that the task may run, so that somebody outside can tell when it has run for too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
}

/// What opens a task's calls to who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLease {
    /// The task.
    pub task: TaskId,
    /// The lease's token.
    pub token: Secret,
    /// The lease's attempt.
    pub attempt: u32,
}

/// `report.json`: written before the report is sent. Its artifacts lie in `artifacts/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldReport {
    /// The lease that it is for.
    pub lease: HeldLease,
    /// What is to be posted.
    pub report: Report,
}

impl Outbox {
    /// The outbox in this folder.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// [`LeaseNote`] as JSON.
    #[must_use]
    pub fn lease(&self) -> PathBuf {
        self.folder.join("lease.json")
    }

    /// [`HeldReport`] as JSON.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.folder.join("report.json")
    }

    /// The folder of files that the report names.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.folder.join("artifacts")
    }

    /// The folder of [`EventsFile`]s: the attempt's events that are not known to be stored. One
    /// [`crate::event::NewEvent`] as JSON a line; the last line of a file may be a part of one.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.folder.join("events")
    }

    /// An empty file: the report was accepted or refused for good, and nothing is left to deliver.
    #[must_use]
    pub fn delivered(&self) -> PathBuf {
        self.folder.join("delivered")
    }
}

/// The name of a file in [`Outbox::events`], such as `00000007-1234` or `00000008`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventsFile {
    /// Its place in the row: events are in the order of their files.
    pub ordinal: u64,
    /// The place of its first event in the attempt, from 0. The oldest file has it. It is counted on from there:
    /// until its turn comes, a file may yet be dropped.
    pub first: Option<u64>,
}

impl fmt::Display for EventsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}", self.ordinal)?;
        self.first.map_or(Ok(()), |first| write!(f, "-{first}"))
    }
}

impl FromStr for EventsFile {
    type Err = ParseIntError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let (ordinal, first) = name.split_once('-').map_or((name, None), |(name, first)| (name, Some(first)));
        Ok(Self { ordinal: ordinal.parse()?, first: first.map(str::parse).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::EventsFile;

    #[test]
    fn a_file_of_events_is_known_by_its_name() {
        for (name, ordinal, first) in [("00000007-1234", 7, Some(1_234)), ("00000008", 8, None)] {
            let file = EventsFile { ordinal, first };
            assert_eq!((file.to_string().as_str(), name.parse()), (name, Ok(file)));
        }
        assert!("7-".parse::<EventsFile>().is_err() && "7.next".parse::<EventsFile>().is_err());
    }
}
