//! Errors on the wire: RFC 9457 problem documents with a stable code.

use serde::{Deserialize, Serialize};

/// The media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $status:literal, $title:literal;)+) => {
        /// What went wrong. The `snake_case` name is stable; a client decides by it, never by prose.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[$doc])* $variant,)+
            /// A code that this version does not know.
            #[serde(other)]
            Unknown,
        }

        impl Code {
            /// Every code that this version knows.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The HTTP status that goes with the code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ Self::Unknown => 500 }
            }

            /// A short name for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ Self::Unknown => "Unknown error" }
            }
        }
    };
}

codes! {
    /// The body is not JSON, or not of this shape.
    BadRequest = 400, "Bad request";
    /// No key came with the request.
    NoKey = 401, "No key";
    /// The virtual key's budget, or an account above it, is spent.
    BudgetSpent = 402, "Budget spent";
    /// A key came, and it is not one that opens this door.
    WrongKey = 403, "Wrong key";
    /// A worker's token that is for another queue.
    WrongQueue = 403, "Wrong queue";
    /// The request names a host or an origin that is not ours.
    ForeignOrigin = 403, "Foreign host or origin";
    /// The virtual key has expired or was revoked.
    KeyRevoked = 403, "Key expired or revoked";
    /// No such route.
    NotFound = 404, "Not found";
    /// No such task.
    UnknownTask = 404, "Unknown task";
    /// No such repository.
    UnknownRepository = 404, "Unknown repository";
    /// No such worker.
    UnknownWorker = 404, "Unknown worker";
    /// No such artifact.
    UnknownArtifact = 404, "Unknown artifact";
    /// The repository has the task's base no more.
    BaseMissing = 404, "Base missing";
    /// The route knows other methods.
    MethodNotAllowed = 405, "Method not allowed";
    /// The id is taken by a task with another body.
    TaskIdTaken = 409, "Task id taken";
    /// A task with this unique key has not ended; `task` says which.
    UniqueKeyTaken = 409, "Unique key taken";
    /// The queue takes no new tasks in.
    QueueDraining = 409, "Queue draining";
    /// The lease is not this worker's any more; `state` says how the task stands.
    LeaseLost = 409, "Lease lost";
    /// The command does not fit the task's state.
    WrongState = 409, "Wrong state";
    /// The repository's name is taken by another source.
    RepositoryTaken = 409, "Repository name taken";
    /// The repository has tasks that are not finished.
    RepositoryBusy = 409, "Repository busy";
    /// The body is over its limit.
    TooLarge = 413, "Too large";
    /// A field's value is not allowed.
    Invalid = 422, "Invalid value";
    /// The repository's source cannot be used.
    BadSource = 422, "Bad source";
    /// The worker speaks another version of the protocol.
    WrongProtocol = 426, "Wrong protocol version";
    /// Too many at once; `retry-after` says when.
    TooMany = 429, "Too many";
    /// A fault of the server's.
    Internal = 500, "Internal error";
    /// The upstream could not be reached, or answered nonsense.
    UpstreamUnreachable = 502, "Upstream unreachable";
    /// The server stops.
    ShuttingDown = 503, "Shutting down";
    /// The base's bundle is being made; come again.
    BaseNotReady = 503, "Base not ready";
    /// The gateway cannot give a key now; the task went back to its queue.
    GatewayUnavailable = 503, "Gateway unavailable";
    /// The disk is full or failing: no new work is taken.
    StorageUnavailable = 507, "Storage unavailable";
}

/// An RFC 9457 problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Problem {
    /// A URI reference that names the kind: `urn:code-workers:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// [`Code::title`].
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: Code,
    /// What happened, why, and what to do.
    pub detail: String,
    /// For `lease_lost`, `wrong_state` and `task_id_taken`: the task's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<crate::TaskState>,
    /// For `unique_key_taken`: the task that has the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<crate::TaskId>,
}

impl Problem {
    /// A problem with a code and a sentence for people.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let name = serde_json::to_value(code).ok();
        let name = name.as_ref().and_then(|v| v.as_str()).unwrap_or("unknown");
        Self {
            kind: format!("urn:code-workers:{name}"),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            state: None,
            task: None,
        }
    }

    /// The same, with the task's state.
    #[must_use]
    pub fn with_state(mut self, state: crate::TaskState) -> Self {
        self.state = Some(state);
        self
    }

    /// The same, with the task that stands in the way.
    #[must_use]
    pub fn with_task(mut self, task: crate::TaskId) -> Self {
        self.task = Some(task);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Problem};

    #[test]
    fn round_trips_and_tolerates_new_codes() {
        for &code in Code::ALL {
            let text = serde_json::to_string(&Problem::new(code, "why")).unwrap();
            assert_eq!(serde_json::from_str::<Problem>(&text).unwrap().code, code);
        }
        assert_eq!(serde_json::from_str::<Code>("\"of_tomorrow\"").unwrap(), Code::Unknown);
    }
}
