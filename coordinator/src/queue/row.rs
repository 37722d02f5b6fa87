//! A task as the rules see it: its row, and where it stands.

use std::time::Duration;

use jiff::Timestamp;
use protocol::{QueueName, TaskId, TaskState, WorkerId};
use uuid::Uuid;

use crate::tokens::Claim;

/// A task, as far as the rules need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the order of acceptance.
    pub n: i64,
    /// Its id.
    pub id: TaskId,
    /// Its queue.
    pub queue: QueueName,
    /// Whether it runs an agent, and so needs a virtual key.
    pub agent: bool,
    /// Attempts that it may have.
    pub max_attempts: u32,
    /// Run time of one attempt.
    pub timeout: Duration,
    /// The latest attempt; 0 before the first.
    pub attempt: u32,
    /// Counts its leases, from the millisecond of its acceptance on: a task that is made again under the id of a
    /// forgotten one has other tokens.
    pub serial: u64,
    /// Where it stands.
    pub stand: Stand,
    /// Why it stands there.
    pub reason: Option<String>,
    /// The worker that has it, or had it last.
    pub worker: Option<WorkerId>,
    /// The pinned base.
    pub base_commit: Option<String>,
    /// When the latest attempt started.
    pub started_at: Option<Timestamp>,
    /// When it came into its state.
    pub since: Timestamp,
    /// Not leased before this, as its sender asked.
    pub not_before: Option<Timestamp>,
    /// Whether its owner has to let it go.
    pub approval: Approval,
    /// How many orders it has had.
    pub orders: u64,
    /// How many lifecycle events it has: one for each state that it came into.
    pub events: u64,
}

/// Whether a task's owner has to let it go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// Nobody asked for it.
    NotAsked,
    /// It is held until then.
    Awaited,
    /// It was let go.
    Given,
}

/// A state with what belongs to it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Its base is not pinned, or its owner has not approved it.
    Held,
    /// Waits for a time.
    Scheduled {
        /// That time.
        due: Timestamp,
    },
    /// Waits for a worker.
    Ready {
        /// Not leased before this.
        not_before: Option<Timestamp>,
    },
    /// A worker has it.
    Leased {
        /// The request that a replay is known by.
        request: Uuid,
        /// Else it goes back.
        start_before: Timestamp,
    },
    /// A worker runs it.
    Running {
        /// The request that a replay is known by.
        request: Uuid,
        /// The hard end, whatever the worker says. Its virtual key expires then too.
        end_before: Timestamp,
        /// Whether its worker is to stop it.
        cancelling: bool,
    },
    /// It has ended.
    Ended {
        /// How.
        how: End,
        /// When.
        at: Timestamp,
    },
}

/// The terminal states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// [`TaskState::Succeeded`]
    Succeeded,
    /// [`TaskState::Failed`]
    Failed,
    /// [`TaskState::TimedOut`]
    TimedOut,
    /// [`TaskState::Cancelled`]
    Cancelled,
    /// [`TaskState::Lost`]
    Lost,
}

impl Stand {
    /// The state's name.
    #[must_use]
    pub const fn state(&self) -> TaskState {
        match self {
            Self::Held => TaskState::Held,
            Self::Scheduled { .. } => TaskState::Scheduled,
            Self::Ready { .. } => TaskState::Ready,
            Self::Leased { .. } => TaskState::Leased,
            Self::Running { .. } => TaskState::Running,
            Self::Ended { how, .. } => match how {
                End::Succeeded => TaskState::Succeeded,
                End::Failed => TaskState::Failed,
                End::TimedOut => TaskState::TimedOut,
                End::Cancelled => TaskState::Cancelled,
                End::Lost => TaskState::Lost,
            },
        }
    }
}

impl Row {
    /// The state's name.
    #[must_use]
    pub const fn state(&self) -> TaskState {
        self.stand.state()
    }

    /// Where a task stands that no worker has had, and why.
    #[must_use]
    pub fn unleased(&self, now: Timestamp) -> (Stand, Option<String>) {
        if self.base_commit.is_none() {
            return (Stand::Held, Some("source".to_owned()));
        }
        if self.approval == Approval::Awaited {
            return (Stand::Held, Some("approval".to_owned()));
        }
        match self.not_before {
            Some(due) if due > now => (Stand::Scheduled { due }, None),
            _ => (Stand::Ready { not_before: None }, None),
        }
    }

    /// Whether a worker has it.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self.stand, Stand::Leased { .. } | Stand::Running { .. })
    }

    /// Whether a worker has this attempt, and with it a key.
    #[must_use]
    pub const fn has_key_in(&self, attempt: u32) -> bool {
        self.attempt == attempt && matches!(self.stand, Stand::Leased { .. } | Stand::Running { .. })
    }

    /// The lease that stands, or stood last.
    #[must_use]
    pub const fn claim(&self) -> Claim {
        Claim { attempt: self.attempt, serial: self.serial }
    }
}

impl Approval {
    /// The word in the store.
    #[must_use]
    pub const fn as_column(self) -> Option<&'static str> {
        match self {
            Self::NotAsked => None,
            Self::Awaited => Some("awaited"),
            Self::Given => Some("given"),
        }
    }
}
