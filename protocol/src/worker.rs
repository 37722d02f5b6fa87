//! Workers: registered by a launcher before their sandbox starts, ended when it has died.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{QueueName, WorkerId},
    secret::Secret,
};

/// The body of `POST /workers`, at the owner's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewWorker {
    /// The queue whose tasks it may lease.
    pub queue: QueueName,
    /// A name for people: which launcher on which host.
    pub name: String,
}

/// The answer: who the worker is, and the token that it shows at the worker's door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Its id.
    pub worker_id: WorkerId,
    /// Opens the worker's door for this queue alone.
    pub token: Secret,
}

/// The body of `POST /workers/{id}/end`, at the owner's side: its sandbox is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerEnd {
    /// The sandbox's exit code; 128 + the signal's number where a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// `exited`, `oom`, `pids`, `killed`, `overrun`, `start_failed`, …: becomes the reason of a lease that ends so.
    pub reason: String,
}
