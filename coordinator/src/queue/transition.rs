//! The rules of a task's life: the only place that knows them. Pure; the clock and the store are others'.
//!
//! ```text
//! held ─ pin, approve ─▶ ready ─ lease ─▶ leased ─ start ─▶ running ─ finish ─▶ succeeded · failed · timed_out · cancelled
//!   │           ▲  ▲               │                  │
//!   │  (due)    │  └─ not started ─┘                  └─ lost ─▶ scheduled while attempts last, else lost
//!   └▶ failed  scheduled
//! ```

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use protocol::{WorkerId, limits, report::Outcome};
use uuid::Uuid;

use super::row::{Approval, End, Row, Stand};
use crate::tokens::Claim;

/// Between a run's own time limit and the moment that its worker is no longer believed to be at work: time to
/// end the agent, to commit, and to upload.
pub const RUN_MARGIN: Duration = Duration::from_secs(600);
/// The pause after a first lost attempt; four times as long after each further one.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause between attempts, without its jitter.
const BACKOFF_CAP: Duration = Duration::from_secs(60);

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
    /// Its base cannot be had now, and may be later.
    PutOffSource {
        /// A word, a colon and a sentence.
        reason: String,
    },
    /// Its owner lets it go.
    Approve,
    /// Its time has come.
    Due,
    /// The machine's clock was set back: what waits for a time of the coordinator's own waits no longer than it may.
    Hasten,
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
    Cancel {
        /// Seconds between SIGTERM and SIGKILL, where it runs.
        grace_s: u64,
    },
    /// Its owner tells its agent something.
    Message {
        /// What.
        text: String,
        /// The sender's id of it.
        id: Option<Uuid>,
    },
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
    match by_state(task, command, now)? {
        Change::To(next) if next.state() != task.state() => {
            Ok(Change::To(Box::new(Row { since: now, events: task.events + 1, ..*next })))
        }
        change => Ok(change),
    }
}

fn by_state(task: &Row, command: &Command, now: Timestamp) -> Result<Change, Refusal> {
    let next = |stand: Stand, reason: Option<String>| Row { stand, reason, ..task.clone() };
    let to = |row: Row| Ok(Change::To(Box::new(row)));
    match (command, &task.stand) {
        (Command::Pin { commit }, Stand::Held) if task.base_commit.is_none() => {
            to(let_go(Row { base_commit: Some(commit.clone()), ..task.clone() }, now))
        }
        (Command::Approve, Stand::Held) if task.approval == Approval::Awaited => {
            to(let_go(Row { approval: Approval::Given, ..task.clone() }, now))
        }
        (Command::Approve, _) if task.approval == Approval::Given => Ok(Change::Nothing),
        (Command::PutOffSource { reason }, Stand::Held) if task.base_commit.is_none() => {
            to(Row { reason: Some(reason.clone()), ..task.clone() })
        }
        (Command::RefuseSource { reason }, Stand::Held) if task.base_commit.is_none() => {
            to(next(Stand::Ended { how: End::Failed, at: now }, Some(reason.clone())))
        }
        (Command::Due, Stand::Scheduled { due }) if *due <= now => {
            to(next(Stand::Ready { not_before: None }, task.reason.clone()))
        }
        (Command::Hasten, Stand::Scheduled { due }) if task.attempt > 0 => {
            to(next(Stand::Scheduled { due: (*due).min(now) }, task.reason.clone()))
        }
        (Command::Hasten, Stand::Ready { not_before: Some(_) }) => {
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
        (Command::Cancel { .. }, _) => cancelled(task, now),
        (Command::Message { .. }, Stand::Running { cancelling: false, .. }) if task.agent => {
            to(Row { orders: task.orders + 1, ..task.clone() })
        }
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

/// From `held`, as far as nothing else holds it.
fn let_go(task: Row, now: Timestamp) -> Row {
    let (stand, reason) = task.unleased(now);
    Row { stand, reason, ..task }
}

/// At once where it does not run, else by an order.
fn cancelled(task: &Row, now: Timestamp) -> Result<Change, Refusal> {
    let ended = Row { stand: Stand::Ended { how: End::Cancelled, at: now }, reason: None, ..task.clone() };
    let next = match task.stand {
        Stand::Ended { .. } => return Err(Refusal::WrongState),
        Stand::Running { cancelling: true, .. } => return Ok(Change::Nothing),
        Stand::Running { request, end_before, .. } => Row {
            stand: Stand::Running { request, end_before, cancelling: true },
            orders: task.orders + 1,
            ..task.clone()
        },
        Stand::Leased { .. } => Row { attempt: task.attempt - 1, ..ended },
        Stand::Held | Stand::Scheduled { .. } | Stand::Ready { .. } => ended,
    };
    Ok(Change::To(Box::new(next)))
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
        (Command::GiveBack { .. }, Stand::Running { .. }) => Err(Refusal::WrongState),
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
