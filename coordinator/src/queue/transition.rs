//! The rules of a task's life: the only place that knows them. Pure; the clock and the store are others'.
//!
//! ```text
//! held ─ pin ─▶ ready ─ lease ─▶ leased ─ start ─▶ running ─ finish ─▶ succeeded · failed · timed_out · cancelled
//!   │           ▲  ▲               │                  │
//!   │  (due)    │  └─ not started ─┘                  └─ lost ─▶ scheduled while attempts last, else lost
//!   └▶ failed  scheduled
//! ```

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use protocol::{QueueName, TaskId, TaskState, WorkerId, limits, report::Outcome};
use uuid::Uuid;

use crate::tokens::Claim;

/// Between a run's own time limit and the moment that its worker is no longer believed to be at work: time to
/// end the agent, to commit, and to upload.
pub const RUN_MARGIN: Duration = Duration::from_secs(600);
/// The pause after a first lost attempt; four times as long after each further one.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause between attempts, without its jitter.
const BACKOFF_CAP: Duration = Duration::from_secs(60);

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
    /// How many leases it has had.
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
}

/// A state with what belongs to it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Its base is not pinned.
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

    /// The lease that stands, or stood last.
    #[must_use]
    pub const fn claim(&self) -> Claim {
        Claim { attempt: self.attempt, serial: self.serial }
    }
}

/// What is asked of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Its base is found.
    Pin {
        /// 40 or 64 hex digits.
        commit: String,
    },
    /// Its base cannot be had.
    RefuseSource {
        /// A word, a colon and a sentence.
        reason: String,
    },
    /// Its time has come.
    Due,
    /// A worker takes it.
    Lease {
        /// Who.
        worker: WorkerId,
        /// The request's id.
        request: Uuid,
    },
    /// Its worker starts it.
    Start(Claim),
    /// It cannot be started now, by no fault of its own.
    GiveBack {
        /// The lease that ends.
        claim: Claim,
        /// Why.
        reason: String,
        /// Nobody takes it before this.
        not_before: Timestamp,
    },
    /// Its worker reports.
    Finish {
        /// The lease that ends.
        claim: Claim,
        /// How the worker says that it went.
        outcome: Outcome,
        /// Why.
        reason: Option<String>,
    },
    /// Its owner wants it no more.
    Cancel,
    /// Its worker has not started it in time: found by the reaper. Does nothing to a run that has begun since.
    NotStarted(Claim),
    /// Its worker fell silent while it ran: found by the reaper.
    Lapse(Claim),
    /// Its run is over its hard end: found by the reaper.
    Overrun(Claim),
    /// Its worker is gone.
    WorkerGone {
        /// Who is gone.
        worker: WorkerId,
        /// Why.
        reason: String,
    },
}

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was done before; nothing changes.
    Nothing,
    /// The task as it is from now on.
    To(Box<Row>),
}

/// Why a command does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The lease that it names does not stand.
    LeaseLost,
    /// It does not fit the task's state.
    WrongState,
}

/// Applies the rules.
///
/// # Errors
/// [`Refusal`]; the task is as it was.
pub fn transition(task: &Row, command: &Command, now: Timestamp) -> Result<Change, Refusal> {
    let next = |stand: Stand, reason: Option<String>| Row { stand, reason, ..task.clone() };
    let to = |row: Row| Ok(Change::To(Box::new(row)));
    match (command, &task.stand) {
        (Command::Pin { commit }, Stand::Held) => {
            to(Row { base_commit: Some(commit.clone()), ..next(Stand::Ready { not_before: None }, None) })
        }
        (Command::RefuseSource { reason }, Stand::Held) => {
            to(next(Stand::Ended { how: End::Failed, at: now }, Some(reason.clone())))
        }
        (Command::Due, Stand::Scheduled { due }) if *due <= now => {
            to(next(Stand::Ready { not_before: None }, task.reason.clone()))
        }
        (Command::Lease { worker, request }, Stand::Ready { not_before })
            if not_before.is_none_or(|then| then <= now) && task.attempt < task.max_attempts =>
        {
            let start_before = after(now, limits::START_WITHIN);
            to(Row {
                attempt: task.attempt + 1,
                serial: task.serial + 1,
                worker: Some(worker.clone()),
                ..next(Stand::Leased { request: *request, start_before }, None)
            })
        }
        (Command::Cancel, Stand::Ended { .. }) => Err(Refusal::WrongState),
        (Command::Cancel, Stand::Running { cancelling: true, .. }) => Ok(Change::Nothing),
        (Command::Cancel, Stand::Running { request, end_before, .. }) => to(next(
            Stand::Running { request: *request, end_before: *end_before, cancelling: true },
            task.reason.clone(),
        )),
        (Command::Cancel, Stand::Leased { .. }) => {
            to(Row { attempt: task.attempt - 1, ..next(Stand::Ended { how: End::Cancelled, at: now }, None) })
        }
        (Command::Cancel, _) => to(next(Stand::Ended { how: End::Cancelled, at: now }, None)),
        (Command::WorkerGone { worker, .. }, _) if task.worker.as_ref() != Some(worker) => {
            Err(Refusal::LeaseLost)
        }
        (Command::WorkerGone { reason, .. }, Stand::Leased { .. }) => {
            to(given_back(task, reason.clone(), None))
        }
        (Command::WorkerGone { reason, .. }, Stand::Running { .. }) => to(lost(task, reason.clone(), now)),
        (Command::WorkerGone { .. }, _) => Err(Refusal::LeaseLost),
        _ => of_lease(task, command, now),
    }
}

/// The commands that name a lease. The lease is compared first, and whole, for every one of them.
fn of_lease(task: &Row, command: &Command, now: Timestamp) -> Result<Change, Refusal> {
    let to = |row: Row| Ok(Change::To(Box::new(row)));
    let claim = match command {
        Command::Start(claim) | Command::NotStarted(claim) => claim,
        Command::Lapse(claim) | Command::Overrun(claim) => claim,
        Command::GiveBack { claim, .. } | Command::Finish { claim, .. } => claim,
        _ => return Err(Refusal::WrongState),
    };
    if *claim != task.claim() {
        return Err(Refusal::LeaseLost);
    }
    match (command, &task.stand) {
        (Command::Start(_), Stand::Leased { request, start_before }) => {
            let end_before = after(*start_before, task.timeout + RUN_MARGIN);
            to(Row {
                stand: Stand::Running { request: *request, end_before, cancelling: false },
                started_at: Some(now),
                ..task.clone()
            })
        }
        (Command::Start(_), Stand::Running { .. }) => Ok(Change::Nothing),
        (Command::GiveBack { reason, not_before, .. }, Stand::Leased { .. }) => {
            to(given_back(task, reason.clone(), Some(*not_before)))
        }
        (Command::NotStarted(_), Stand::Leased { .. }) => {
            to(given_back(task, "not_started".to_owned(), None))
        }
        (Command::Lapse(_), Stand::Running { .. }) => to(lost(task, "lease_expired".to_owned(), now)),
        (Command::Overrun(_), Stand::Running { cancelling, .. }) => {
            let how = if *cancelling { End::Cancelled } else { End::TimedOut };
            let reason = "overrun: the worker did not end in time".to_owned();
            to(Row { stand: Stand::Ended { how, at: now }, reason: Some(reason), ..task.clone() })
        }
        (Command::Finish { outcome, reason, .. }, Stand::Running { .. }) => {
            let how = match outcome {
                Outcome::Succeeded => End::Succeeded,
                Outcome::Failed => End::Failed,
                Outcome::TimedOut => End::TimedOut,
                Outcome::Cancelled => End::Cancelled,
                Outcome::Lost => {
                    return to(lost(task, reason.clone().unwrap_or_else(|| "lost".to_owned()), now));
                }
            };
            to(Row { stand: Stand::Ended { how, at: now }, reason: reason.clone(), ..task.clone() })
        }
        (Command::Finish { .. }, Stand::Leased { .. }) => Err(Refusal::WrongState),
        _ => Err(Refusal::LeaseLost),
    }
}

/// A lease that was not started burns no attempt.
fn given_back(task: &Row, reason: String, not_before: Option<Timestamp>) -> Row {
    Row {
        attempt: task.attempt - 1,
        stand: Stand::Ready { not_before },
        reason: Some(reason),
        ..task.clone()
    }
}

/// A run whose worker is gone is tried again while attempts last, unless nobody wants it any more.
fn lost(task: &Row, reason: String, now: Timestamp) -> Row {
    let stand = match task.stand {
        Stand::Running { cancelling: true, .. } => Stand::Ended { how: End::Cancelled, at: now },
        _ if task.attempt >= task.max_attempts => Stand::Ended { how: End::Lost, at: now },
        _ => Stand::Scheduled { due: after(now, backoff(task)) },
    };
    Row { stand, reason: Some(reason), ..task.clone() }
}

/// Up to half as long again, by a hash of task and attempt: tasks that were lost together do not come back
/// together, and the rule stays a pure one.
fn backoff(task: &Row) -> Duration {
    let plain = BACKOFF.saturating_mul(4_u32.saturating_pow(task.attempt.saturating_sub(1))).min(BACKOFF_CAP);
    let mut hasher = DefaultHasher::new();
    (task.id.as_str(), task.attempt).hash(&mut hasher);
    let share = u32::try_from(hasher.finish() % 1_000).unwrap_or(0);
    plain + plain * share / 2_000
}

/// A time later than another; the end of time where there is no such.
#[must_use]
pub fn after(time: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| time.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
