//! Queues: how they stand, and what their owner may change about them.

use serde::{Deserialize, Serialize};

use crate::ids::QueueName;

/// What a queue does with tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueMode {
    /// Takes tasks in and hands them out.
    #[default]
    Open,
    /// Takes tasks in and hands none out. What runs goes on.
    Paused,
    /// Takes no new task in, and hands out those that it has.
    Draining,
}

impl QueueMode {
    /// The name on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

impl std::fmt::Display for QueueMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The body of `POST /queues/{name}`: what is not said stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeQueue {
    /// What it does with tasks from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<QueueMode>,
    /// Tasks that may be leased or running at once; 0 for as many as there are workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
}

/// How a queue stands: an entry of `GET /queues`, and the answer to `POST /queues/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Its name, which is its repository's.
    pub name: QueueName,
    /// What it does with tasks.
    pub mode: QueueMode,
    /// Tasks that may be leased or running at once; 0 for as many as there are workers.
    pub max_running: u32,
    /// Tasks by state, those that have not ended.
    #[serde(flatten)]
    pub depth: QueueDepth,
}

/// Unfinished tasks of a queue, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueDepth {
    /// Wait for their source or for approval.
    pub held: u64,
    /// Wait for a time.
    pub scheduled: u64,
    /// Wait for a worker.
    pub ready: u64,
    /// A worker has them, and has not started.
    pub leased: u64,
    /// A worker runs them.
    pub running: u64,
}

impl QueueDepth {
    /// All of them.
    #[must_use]
    pub const fn unfinished(&self) -> u64 {
        self.held + self.scheduled + self.ready + self.leased + self.running
    }
}
