//! What can be seen of the model.

use protocol::TaskState;

use super::{Model, task::Task};
use crate::{
    commands::{Command, Named, View},
    span::lease_clock,
};

impl Model {
    /// Attempts that are over, and whose key the gateway is still to be asked for.
    pub(super) fn unsettled(&self) -> Vec<(u8, u32)> {
        let runs = |(id, attempt): &&(u8, u32)| {
            self.tasks
                .get(id)
                .is_some_and(|task| task.state == TaskState::Running && task.attempt == *attempt)
        };
        self.keys.iter().filter(|key| !runs(key)).copied().collect()
    }

    /// Whether the promises do not say what would happen now.
    pub(crate) fn is_unsure(&self, command: &Command) -> bool {
        let now = self.now;
        match command {
            Command::Reap => self.tasks.values().any(|task| match task.state {
                TaskState::Running => task.until.is_unsure(now) || task.hard_end.is_unsure(now),
                TaskState::Leased | TaskState::Scheduled => task.until.is_unsure(now),
                _ => false,
            }),
            Command::Lease { .. } => self
                .tasks
                .values()
                .any(|task| task.state == TaskState::Ready && task.until.is_unsure(lease_clock(now))),
            _ => false,
        }
    }

    /// Tasks that there are.
    pub(crate) fn ids(&self) -> Vec<u8> {
        self.tasks.keys().copied().collect()
    }

    /// Ids that no task has had.
    pub(crate) fn new_ids(&self, of: std::ops::Range<u8>) -> Vec<u8> {
        of.filter(|id| !self.tasks.contains_key(id) && !self.past.contains(id)).collect()
    }

    /// Leases that stand.
    pub(crate) fn leases(&self) -> Vec<Named> {
        let live = self.tasks.iter().filter(|(_, task)| task.is_live());
        live.map(|(&id, task)| Named { task: id, request: task.lease.request }).collect()
    }

    pub(crate) fn view(&self) -> View {
        let depth = |queue: usize| {
            let states = [
                TaskState::Held,
                TaskState::Scheduled,
                TaskState::Ready,
                TaskState::Leased,
                TaskState::Running,
            ];
            states.map(|state| {
                let counts = |task: &&Task| usize::from(task.draft.queue) == queue && task.state == state;
                self.tasks.values().filter(counts).count() as u64
            })
        };
        View {
            tasks: self.tasks.iter().map(|(&id, task)| (id, task.seen())).collect(),
            queues: self
                .queues
                .iter()
                .enumerate()
                .map(|(n, queue)| (queue.mode, queue.max_running, depth(n)))
                .collect(),
            keys: self.unsettled(),
        }
    }
}
