//! Who waits for what, and the bells that end the waiting. Rung after a commit, never before.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use protocol::{QueueName, TaskId};
use tokio::sync::{Notify, mpsc};

use super::{
    row::{Row, Stand},
    store::locked,
    tx::Committed,
};

/// Bells by what they are rung for.
pub(crate) struct Wake {
    ready: Mutex<HashMap<QueueName, Arc<Notify>>>,
    ended: Mutex<HashMap<TaskId, Arc<Notify>>>,
    held: mpsc::UnboundedSender<QueueName>,
    keys: Notify,
    /// Queues where tasks wait for others to end, since as many run as may.
    blocked: Mutex<HashSet<QueueName>>,
}

impl Wake {
    /// No bells; and where the names of queues with held tasks come out.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<QueueName>) {
        let (held, queues) = mpsc::unbounded_channel();
        let wake = Self {
            ready: Mutex::default(),
            ended: Mutex::default(),
            held,
            keys: Notify::new(),
            blocked: Mutex::default(),
        };
        (wake, queues)
    }

    /// Rung once for each task of the queue that comes to be ready: it wakes one waiter. A waiter that goes
    /// after it was woken and before it looked passes it on (as tokio's [`Notify`] promises).
    pub(crate) fn ready(&self, queue: &QueueName) -> Arc<Notify> {
        locked(&self.ready).entry(queue.clone()).or_default().clone()
    }

    /// Rung when the task ends. Keep it until then.
    pub(crate) fn ended(self: &Arc<Self>, task: &TaskId) -> EndBell {
        let bell = locked(&self.ended).entry(task.clone()).or_default().clone();
        EndBell { bell, task: task.clone(), wake: self.clone() }
    }

    /// Rung when an attempt with a virtual key is over.
    pub(crate) const fn keys(&self) -> &Notify {
        &self.keys
    }

    /// Wakes everybody who waits for a task of the queue: its owner has changed it.
    pub(crate) fn changed(&self, queue: &QueueName) {
        self.ready(queue).notify_waiters();
    }

    /// Wakes everybody who waits for a task.
    pub(crate) fn everybody(&self) {
        locked(&self.ready).values().for_each(|bell| bell.notify_waiters());
    }

    /// Says that a task of the queue waits for another one to end. Called on the writer's thread, so that no end
    /// is missed.
    pub(crate) fn block(&self, queue: &QueueName) {
        locked(&self.blocked).insert(queue.clone());
    }

    /// Says that no task of the queue waits any more.
    pub(crate) fn unblock(&self, queue: &QueueName) {
        locked(&self.blocked).remove(queue);
    }

    /// So many tasks do not run any more: as many of those that wait for it may look again, in each queue, since
    /// any of them may have the next turn.
    fn freed(&self, freed: usize) {
        for queue in &*locked(&self.blocked) {
            let bell = self.ready(queue);
            (0..freed).for_each(|_| bell.notify_one());
        }
    }

    /// Says that the queue has held tasks.
    pub(crate) fn hold(&self, queue: QueueName) {
        // An error means that the program is stopping; the next start takes them up.
        let _ = self.held.send(queue);
    }

    /// Rings for what was committed.
    pub(crate) fn ring(&self, changes: &[Committed]) {
        let mut held = HashSet::new();
        let mut freed = 0;
        for Committed { row, from, .. } in changes {
            freed += usize::from(from.as_ref().is_some_and(Row::is_live) && !row.is_live());
            match row.stand {
                // One that was held before is tried again by whoever put it off.
                Stand::Held if row.base_commit.is_none() && from.is_none() => {
                    held.insert(&row.queue);
                }
                Stand::Ready { .. } => self.ready(&row.queue).notify_one(),
                Stand::Ended { .. } => {
                    if let Some(bell) = locked(&self.ended).get(&row.id) {
                        bell.notify_waiters();
                    }
                }
                _ => {}
            }
            if row.agent && matches!(row.stand, Stand::Ended { .. } | Stand::Scheduled { .. }) {
                self.keys.notify_one();
            }
        }
        if freed > 0 {
            self.freed(freed);
        }
        held.into_iter().cloned().for_each(|queue| self.hold(queue));
    }
}

/// The bell of one task, kept by those who wait for its end.
pub(crate) struct EndBell {
    pub(crate) bell: Arc<Notify>,
    task: TaskId,
    wake: Arc<Wake>,
}

impl Drop for EndBell {
    fn drop(&mut self) {
        let mut bells = locked(&self.wake.ended);
        // The map's and this one: nobody else waits.
        if Arc::strong_count(&self.bell) <= 2 {
            bells.remove(&self.task);
        }
    }
}
