//! What a worker says at the end of an attempt. It is a claim, made from inside the sandbox.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::task::Artifact;

/// How an attempt ended, as its worker tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The program exited 0 (and, for an agent, its output told of no error).
    Succeeded,
    /// It did not.
    Failed,
    /// Its run time was over.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// The worker had to stop for a reason that is not the task's; the task is tried again.
    Lost,
}

/// A limit that an attempt met. What it did to the attempt is the report's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The sandbox's memory: the agent is ended shortly before it is full.
    Memory,
    /// Processes and threads of the agent: a further one is refused (EAGAIN).
    Processes,
    /// Open files of one process: a further one is refused (EMFILE).
    OpenFiles,
    /// The size of `/work` or `/tmp`: what does not fit is refused (ENOSPC).
    Disk,
    /// Files and folders in `/work`: the agent is ended.
    Files,
    /// Output: what is over it is dropped.
    Output,
    /// The task's run time: the agent is ended.
    Time,
}

impl Limit {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::OpenFiles => "open_files",
            Self::Disk => "disk",
            Self::Files => "files",
            Self::Output => "output",
            Self::Time => "time",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the branch changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffStat {
    /// Files changed.
    pub files: u64,
    /// Lines added.
    pub insertions: u64,
    /// Lines taken away.
    pub deletions: u64,
}

/// Tokens, as the agent's own output counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// All that went in, cache included.
    pub input: u64,
    /// All that came out, reasoning included.
    pub output: u64,
}

/// The body of `POST /tasks/{id}/result`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not succeed: a word (`agent_failed`, `agent_missing`, `no_such_base`,
    /// `budget_spent`, `limit_memory`, …), then perhaps a colon and a sentence with the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Limits that struck, whatever came of it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub limits: BTreeSet<Limit>,
    /// The program's exit code; 128 + the signal's number where a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The agent's last words, or an `exec` task's standard output (its end).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The branch's tip; `None` where nothing was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// What the branch changes.
    #[serde(default)]
    pub diff: DiffStat,
    /// What the agent counted.
    #[serde(default)]
    pub tokens: Tokens,
    /// Milliseconds from `start` to here, by stage.
    #[serde(default)]
    pub stages: Vec<Stage>,
    /// The log's end.
    #[serde(default)]
    pub log_tail: String,
    /// What was uploaded before this report.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
}

impl Report {
    /// One that tells nothing but how it ended.
    #[must_use]
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            reason: None,
            limits: BTreeSet::new(),
            exit_code: None,
            message: None,
            head: None,
            diff: DiffStat::default(),
            tokens: Tokens::default(),
            stages: Vec::new(),
            log_tail: String::new(),
            artifacts: Vec::new(),
        }
    }
}

/// How long one part of an attempt took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// `checkout`, `agent`, `commit`, `upload`.
    pub name: String,
    /// Milliseconds.
    pub ms: u64,
}

/// The answer to a result: the same for the same report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Where the task stands now.
    pub state: crate::TaskState,
}
