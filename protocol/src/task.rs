//! A task as the owner sees it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    ids::{AgentName, QueueName, TaskId, WorkerId},
    keys::KeyUsage,
    money::Usd,
    report::Report,
};

/// Where a task stands. The terminal states never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for its source to be fetched and its base pinned, or for its owner's approval.
    Held,
    /// Waits for a time: the one that its sender named, or a retry's back-off.
    Scheduled,
    /// Waits for a worker.
    Ready,
    /// A worker has it, and has not started.
    Leased,
    /// A worker runs it.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly, by the agent's or the task's own fault.
    Failed,
    /// Its run time was over.
    TimedOut,
    /// Cancelled.
    Cancelled,
    /// Its workers fell silent or died, as often as it had attempts.
    Lost,
}

impl TaskState {
    /// Every state, in the order of a task's life.
    pub const ALL: [Self; 10] = [
        Self::Held,
        Self::Scheduled,
        Self::Ready,
        Self::Leased,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Lost,
    ];

    /// Whether the state is one that never changes.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::TimedOut | Self::Cancelled | Self::Lost)
    }

    /// The name on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}

impl std::fmt::Display for TaskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which tasks a worker gets first. FIFO inside one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    Critical,
    /// Before normal ones.
    High,
    /// The usual one.
    #[default]
    Normal,
    /// After all others.
    Low,
}

/// What a worker does for a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// Run an agent CLI with a prompt, and take back a branch.
    Agent {
        /// What the agent is asked to do.
        prompt: String,
        /// Which file of `agents/` says how to run it. `None`: the launcher's default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentName>,
        /// `provider/model`. `None`: the agent file's default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// Run a program, with no agent and no key, and take back its exit code and output.
    Exec {
        /// The program and its arguments; never a shell's command line.
        argv: Vec<String>,
    },
}

/// The commit that a task starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// What the sender asked for: a branch, a tag, a commit, or `code-workers/<task id>`. `None`: the
    /// source's default branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
    /// The commit that it was pinned to: 40 or 64 hex digits. `None` while held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// An artifact that the coordinator holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// One path component: `patch`, `bundle`, `log`, or a name of the agent's.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// A task: `GET /tasks/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its queue, which is its repository's name.
    pub queue: QueueName,
    /// Where it stands.
    pub state: TaskState,
    /// Why it stands there, where there is more to say than the state: `source`, `approval`, `base_unresolvable`,
    /// `oom`, `lease_expired`, `budget_spent`, …; a word, then perhaps a colon and a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is to be done.
    #[serde(flatten)]
    pub work: Work,
    /// Where it starts.
    pub base: Base,
    /// The branch that the result comes back on.
    pub branch: String,
    /// Its rank among its queue's tasks.
    pub priority: Priority,
    /// The latest attempt; 0 before the first.
    pub attempt: u32,
    /// Attempts that it may have.
    pub max_attempts: u32,
    /// Seconds that one attempt may run.
    pub timeout_s: u64,
    /// What its virtual keys may spend, all attempts together. `None` for `exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<Usd>,
    /// Not leased before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// While this task has not ended, its queue takes no other with the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    /// Who made it.
    pub principal: String,
    /// The task that it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<TaskId>,
    /// The worker that has it, or had it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it came into its state.
    pub since: Timestamp,
    /// When the latest attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it reached its terminal state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// What the worker reported: a claim. (Money is in `usage`.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Report>,
    /// What the gateway's ledger says that the task spent, all attempts together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<KeyUsage>,
    /// The artifacts of the latest attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
}

/// A page of `GET /tasks`: newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPage {
    /// The tasks, without `result`, `usage` and `artifacts`.
    pub tasks: Vec<Task>,
    /// Give it as `?before=` for the next page; `None` at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The body of `POST /tasks/{id}/retry`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// The new task's id, for a request that may be repeated. `None`: the server makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<TaskId>,
}

/// The body of `POST /tasks/{id}/cancel`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Seconds that a running agent has between SIGTERM and SIGKILL, at most [`crate::limits::KILL_GRACE_CAP`];
    /// [`crate::limits::KILL_GRACE`] where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_s: Option<u64>,
}

/// The body of `POST /tasks/{id}/message`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// What its agent is to be told; at most [`crate::limits::PROMPT_BYTES`].
    pub text: String,
    /// The sender's id of the message, for a request that may be repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
}

/// The answer: its place among the task's orders. The agent has got it when the task's stream has an event
/// `message` with this number as its `order`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageAccepted {
    /// From 1.
    pub seq: u64,
}

/// What `GET /tasks` filters by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFilter {
    /// Only this queue's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    /// Only in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<TaskState>,
    /// Rows wanted; at most [`crate::limits::PAGE_ROWS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// [`TaskPage::next`] of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}
