//! What the store shows.

use std::collections::BTreeMap;

use protocol::{
    EventBody, Task, WorkerId,
    queue::{QueueMode, QueueStatus},
    task::TaskFilter,
};

use super::{System, words::number};
use crate::commands::{Seen, View};

impl System {
    /// All that can be seen now.
    pub(crate) fn view(&self) -> View {
        let all = TaskFilter { limit: Some(500), ..TaskFilter::default() };
        let page = self.queue.page(&all).unwrap();
        let seen = |listed: &Task| {
            let task = self.queue.task(&listed.id).unwrap().expect("a task of the page");
            let same =
                (listed.state, listed.attempt, &listed.reason) == (task.state, task.attempt, &task.reason);
            assert!(same, "the page says {listed:?}, the task {task:?}");
            (number(task.id.as_str()), self.seen(&task))
        };
        let keys = self.queue.unsettled_keys().unwrap();
        let mut keys: Vec<_> = keys.into_iter().map(|(id, attempt)| (number(id.as_str()), attempt)).collect();
        keys.sort_unstable();
        View {
            tasks: page.tasks.iter().map(seen).collect::<BTreeMap<_, _>>(),
            queues: self.queue.queues().unwrap().iter().map(depth).collect(),
            keys,
        }
    }

    fn seen(&self, task: &Task) -> Seen {
        let (row, events) = self.queue.row_and_events(&task.id).unwrap().expect("a row of the task");
        let trail = self.queue.lifecycle(&task.id, row.n, 0, i64::MAX.cast_unsigned()).unwrap();
        assert!(trail.iter().map(|event| event.seq).eq(1..=events), "gaps in {trail:?}");
        Seen {
            queue: number(task.queue.as_str()),
            state: task.state,
            attempt: task.attempt,
            reason: task.reason.as_ref().map(|reason| reason.split(':').next().unwrap().to_owned()),
            orders: row.orders,
            worker: task.worker.as_ref().map(|worker| self.number_of(worker)),
            key: task.unique_key.as_deref().map(number),
            retry_of: task.retry_of.as_ref().map(|id| number(id.as_str())),
            pinned: task.base.commit.is_some(),
            words: task.result.as_ref().map(|report| report.message.as_deref().map_or(0, number)),
            trail: trail
                .into_iter()
                .map(|event| match event.event.body {
                    EventBody::State { state, .. } => (state, event.attempt),
                    other => panic!("{other:?} is no change of state"),
                })
                .collect(),
        }
    }

    fn number_of(&self, worker: &WorkerId) -> u8 {
        self.workers.iter().position(|known| known == worker).unwrap().try_into().unwrap()
    }
}

fn depth(queue: &QueueStatus) -> (QueueMode, u32, [u64; 5]) {
    let depth = queue.depth;
    let depths = [depth.held, depth.scheduled, depth.ready, depth.leased, depth.running];
    (queue.mode, queue.max_running, depths)
}
