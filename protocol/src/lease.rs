//! The worker's verbs: lease, start, heartbeat.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    ids::{QueueName, TaskId},
    money::Usd,
    secret::Secret,
    task::Work,
};

/// The query of `GET /tasks/lease/{queue}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseQuery {
    /// The same id brings the same lease again, so that a lost answer loses no task.
    pub request_id: Uuid,
    /// Seconds to wait for a task; at most [`crate::limits::LEASE_WAIT`]. 0 does not wait.
    #[serde(default)]
    pub wait: u64,
}

/// A task as its worker needs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The task.
    pub id: TaskId,
    /// Its queue.
    pub queue: QueueName,
    /// What is to be done.
    #[serde(flatten)]
    pub work: Work,
    /// The commit to start from: 40 or 64 hex digits.
    pub base_commit: String,
    /// The branch to work on, without `refs/heads/`: `code-workers/<task id>`, or an escaped form of it
    /// where git does not take the id as it is.
    pub branch: String,
    /// Seconds that the attempt may run.
    pub timeout_s: u64,
}

/// What makes a worker the one that has the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Goes out in [`crate::headers::LEASE`].
    pub token: Secret,
    /// Goes out in [`crate::headers::ATTEMPT`].
    pub attempt: u32,
    /// Start before this, or the lease goes back.
    pub expires_at: Timestamp,
    /// Seconds between heartbeats.
    pub heartbeat_s: u64,
    /// Seconds that a started lease lives after its last heartbeat.
    pub lease_s: u64,
}

/// The answer to a lease request that found a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leased {
    /// The task.
    pub task: Assignment,
    /// The lease.
    pub lease: Lease,
}

/// The body of `POST /tasks/{id}/start`; none is the same as an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// The worker has a key for its agents already, of a gateway that is not ours: no virtual key is made.
    #[serde(default)]
    pub own_key: bool,
}

/// The answer to `POST /tasks/{id}/start`. Repeated, it is the same but for `expires_at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The lease's new end.
    pub expires_at: Timestamp,
    /// For `agent` tasks: the key that the gateway takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_key: Option<Secret>,
    /// For `agent` tasks: what the key may spend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<Usd>,
    /// Whether the gateway has each provider's API below the provider's name: `/anthropic/v1/messages`. Ours has
    /// them there too, but an agent need not know.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub provider_paths: bool,
}

/// The query of `POST /tasks/{id}/heartbeat`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatQuery {
    /// Seconds to wait for an order; at most [`crate::limits::HEARTBEAT_WAIT`].
    #[serde(default)]
    pub wait: u64,
}

/// The body of `POST /tasks/{id}/heartbeat`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The `seq` of the latest order that was carried out; 0 before the first.
    #[serde(default)]
    pub after: u64,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The lease's new end.
    pub expires_at: Timestamp,
    /// Orders after [`Heartbeat::after`], in order.
    #[serde(default)]
    pub orders: Vec<Order>,
}

/// The body of `POST /tasks/{id}/release`: the worker has to stop before it has started the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// A word, then perhaps a colon and a sentence.
    pub reason: String,
}

/// Something that the owner wants of a running task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its place in the task's orders, from 1.
    pub seq: u64,
    /// What is wanted.
    #[serde(flatten)]
    pub kind: OrderKind,
}

/// What an order asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OrderKind {
    /// Stop the agent, and report what there is as cancelled.
    Cancel {
        /// Seconds between SIGTERM and SIGKILL.
        grace_s: u64,
    },
    /// Tell the agent this. Of an attempt after the first, those that the earlier ones got come again: its agent
    /// has not heard them.
    Message {
        /// What.
        text: String,
    },
}
