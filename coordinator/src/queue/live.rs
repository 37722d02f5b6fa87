//! The leases that stand, in memory: when each was last heard of, and what its worker is to be told.
//!
//! Heartbeats are not written down. After a restart every lease gets one full time of grace instead, so nothing
//! is lost but time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use protocol::{QueueName, TaskId, limits};
use tokio::sync::Notify;

use super::{
    row::{Row, Stand},
    store::locked,
    transition::{Command, RUN_MARGIN, after},
    tx::Committed,
};
use crate::tokens::Claim;

/// All leases that stand. What it holds follows from the tasks' rows and from who was heard when.
#[derive(Default)]
pub(crate) struct Live {
    leases: Mutex<HashMap<TaskId, Lease>>,
}

struct Lease {
    claim: Claim,
    queue: QueueName,
    agent: bool,
    running: bool,
    /// Orders that its task has had.
    orders: u64,
    /// Start, or be heard, before this.
    expires_at: Timestamp,
    /// The hard end of a run.
    end_before: Timestamp,
    /// The reaper has begun to end it: it is not extended any more.
    over: bool,
    changed: Arc<Notify>,
}

/// What a heartbeat finds.
pub(crate) struct Heard {
    /// The lease's new end.
    pub(crate) expires_at: Timestamp,
    /// Rung when there are orders, and when the lease is over.
    pub(crate) changed: Arc<Notify>,
}

impl Live {
    /// Takes up a lease that stood when the coordinator stopped, with a full time of grace.
    ///
    /// A time that was stored is believed as far as it can be: where the machine's clock was set meanwhile, the lease
    /// begins anew.
    pub(crate) fn take_up(&self, row: &Row, now: Timestamp) {
        let start_before = after(now, limits::START_WITHIN);
        let stand = match row.stand {
            Stand::Leased { request, .. } => Stand::Leased { request, start_before },
            Stand::Running { request, end_before, cancelling } => {
                let latest = after(start_before, row.timeout + RUN_MARGIN);
                let possible = end_before > now && end_before <= latest;
                Stand::Running { request, end_before: if possible { end_before } else { latest }, cancelling }
            }
            other => other,
        };
        self.follow(&Row { stand, ..row.clone() }, now);
    }

    /// Follows what was committed.
    pub(crate) fn committed(&self, changes: &[Committed], now: Timestamp) {
        changes.iter().for_each(|change| self.follow(&change.row, now));
    }

    fn follow(&self, row: &Row, now: Timestamp) {
        let mut leases = locked(&self.leases);
        let old = leases.get(&row.id).filter(|old| old.claim == row.claim());
        let changed = old.map_or_else(Arc::default, |old| old.changed.clone());
        let lease = match row.stand {
            Stand::Leased { start_before, .. } => Lease {
                claim: row.claim(),
                queue: row.queue.clone(),
                agent: row.agent,
                running: false,
                orders: row.orders,
                expires_at: start_before,
                end_before: Timestamp::MAX,
                over: false,
                changed,
            },
            Stand::Running { end_before, .. } => Lease {
                claim: row.claim(),
                queue: row.queue.clone(),
                agent: row.agent,
                running: true,
                orders: row.orders,
                expires_at: match old {
                    Some(old) if old.running => old.expires_at,
                    _ => after(now, limits::LEASE),
                },
                // What was taken up stays, whatever is stored.
                end_before: old.filter(|old| old.running).map_or(end_before, |old| old.end_before),
                over: old.is_some_and(|old| old.over && old.running),
                changed,
            },
            _ => {
                if let Some(gone) = leases.remove(&row.id) {
                    gone.changed.notify_waiters();
                }
                return;
            }
        };
        lease.changed.notify_waiters();
        leases.insert(row.id.clone(), lease);
    }

    /// Whether this lease is an agent's; `None` where it does not stand.
    pub(crate) fn is_agents(&self, task: &TaskId, claim: Claim) -> Option<bool> {
        let leases = locked(&self.leases);
        leases.get(task).filter(|lease| lease.claim == claim).map(|lease| lease.agent)
    }

    /// The queue of a task that is leased.
    pub(crate) fn queue(&self, task: &TaskId) -> Option<QueueName> {
        locked(&self.leases).get(task).map(|lease| lease.queue.clone())
    }

    /// The worker was heard: its lease lives on. `None` where it does not stand as a running one.
    pub(crate) fn hear(&self, task: &TaskId, claim: Claim, now: Timestamp) -> Option<Heard> {
        let mut leases = locked(&self.leases);
        let lease =
            leases.get_mut(task).filter(|lease| lease.claim == claim && lease.running && !lease.over)?;
        lease.expires_at = after(now, limits::LEASE);
        Some(Heard { expires_at: lease.expires_at, changed: lease.changed.clone() })
    }

    /// The end of a lease that runs.
    pub(crate) fn expires_at(&self, task: &TaskId, claim: Claim) -> Option<Timestamp> {
        let leases = locked(&self.leases);
        leases.get(task).filter(|lease| lease.claim == claim && !lease.over).map(|lease| lease.expires_at)
    }

    /// How many orders the task of a running lease has had. `None` where the lease does not stand.
    pub(crate) fn orders(&self, task: &TaskId, claim: Claim) -> Option<u64> {
        let leases = locked(&self.leases);
        leases
            .get(task)
            .filter(|lease| lease.claim == claim && lease.running && !lease.over)
            .map(|lease| lease.orders)
    }

    /// Leases whose time is over, with what becomes of each. From now on they are not extended.
    pub(crate) fn overdue(&self, now: Timestamp) -> Vec<(TaskId, Command)> {
        let mut found = Vec::new();
        for (task, lease) in locked(&self.leases).iter_mut() {
            if lease.over || lease.expires_at <= now {
                lease.over = true;
                let seen = if lease.running { Command::Lapse } else { Command::NotStarted };
                found.push((task.clone(), seen(lease.claim)));
            } else if lease.end_before <= now {
                found.push((task.clone(), Command::Overrun(lease.claim)));
            }
        }
        found
    }
}
