//! What was acknowledged, held against what a place serves, whenever that may be: also before its tasks have ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use coordinator::{
    Clock,
    queue::{Queue, StoreError},
};
use protocol::{
    EventBody, Task, TaskId, TaskState,
    task::{Message, TaskFilter},
};

use crate::{
    check::differs,
    history::{Fact, History},
};

/// What came of reading everything.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// What was served, and is not what was acknowledged.
    pub(crate) faults: Vec<String>,
    /// What was refused, with the damage named.
    pub(crate) told: Vec<String>,
}

impl Found {
    /// What was read; `None`, and noted, where it was refused.
    fn read<T>(&mut self, what: &str, read: Result<T, StoreError>) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            // A refusal by the rules is an answer: "no such task", for one.
            Err(StoreError::Refused(problem)) => {
                self.faults.push(format!("{what}: {problem}"));
                None
            }
            Err(error) => {
                self.told.push(format!("{what}: {error}"));
                None
            }
        }
    }
}

/// Reads everything that the history tells of.
pub(crate) async fn found(history: &History, queue: &Arc<Queue>) -> Found {
    let mut found = Found::default();
    let mut tasks: BTreeMap<&TaskId, Option<Task>> = BTreeMap::new();
    let listed = found.read("the list", states(history, queue));
    let ids: BTreeSet<&TaskId> = history.facts.iter().filter_map(|(_, fact)| task_of(fact)).collect();
    for id in ids {
        let task = found.read(id.as_str(), queue.task(id));
        if matches!(task, Some(None)) {
            found.faults.push(format!("{id} was acknowledged, and is not there"));
        }
        let task = task.flatten();
        if let (Some(task), Some(listed)) = (&task, &listed)
            && listed.get(id) != Some(&task.state)
        {
            found.faults.push(format!("{id} is {}, and listed as {:?}", task.state, listed.get(id)));
        }
        tasks.insert(id, task);
    }
    for (_, fact) in &history.facts {
        if let Fact::Told { task, message, seq, text } = fact {
            let again = Message { text: text.clone(), id: Some(*message) };
            let answer = queue.message(task, again, Clock::start().now()).await;
            if let Some(again) = found.read("a message", answer)
                && again != *seq
            {
                found.faults.push(format!("message {seq} of {task} has become message {again}"));
            }
        }
        if let Fact::Accepted(sent) = fact {
            let task = tasks.iter().find(|(id, _)| sent.id.as_deref() == Some(id.as_str()));
            found.faults.extend(task.and_then(|(_, task)| differs(sent, task.as_ref()?)));
        }
        if let Some(id) = task_of(fact)
            && let Some(Some(task)) = tasks.get(id)
        {
            found.faults.extend(fact_of(fact, task));
            lifecycle(fact, task, queue, &mut found);
        }
    }
    found
}

/// The tasks of all queues that something was sent to, page by page.
fn states(history: &History, queue: &Arc<Queue>) -> Result<BTreeMap<TaskId, TaskState>, StoreError> {
    let sent = history.facts.iter().filter_map(|(_, fact)| match fact {
        Fact::Accepted(sent) => Some(sent.queue.as_str()),
        _ => None,
    });
    let mut listed = BTreeMap::new();
    for name in sent.collect::<BTreeSet<_>>() {
        let name = Some(crate::place::queue(name));
        let mut filter = TaskFilter { queue: name, limit: Some(500), ..TaskFilter::default() };
        loop {
            let page = queue.page(&filter)?;
            listed.extend(page.tasks.into_iter().map(|task| (task.id, task.state)));
            filter.before = page.next;
            if filter.before.is_none() {
                break;
            }
        }
    }
    Ok(listed)
}

/// The task that a fact says is there.
fn task_of(fact: &Fact) -> Option<&TaskId> {
    match fact {
        Fact::Retried { id, .. } => Some(id),
        Fact::Seen { task, .. } | Fact::Told { task, .. } | Fact::Followed { task, .. } => Some(task),
        Fact::Leased { lease, .. } | Fact::Taken { lease, .. } => Some(&lease.task),
        Fact::Stored { lease, .. } | Fact::Beat { lease, .. } | Fact::Result { lease, .. } => {
            Some(&lease.task)
        }
        // Is followed by what was seen of it.
        Fact::Accepted(_) => None,
        Fact::Refused(_) | Fact::Approved(_) | Fact::Live(_) | Fact::Limit { .. } | Fact::Odd(_) => None,
    }
}

/// How the task that is served is not what this fact said.
fn fact_of(fact: &Fact, task: &Task) -> Option<String> {
    let id = &task.id;
    match fact {
        Fact::Retried { of, .. } if task.retry_of.as_ref() != Some(of) => {
            Some(format!("{id} does not repeat {of}"))
        }
        Fact::Seen { state, .. } if state.is_terminal() && task.state != *state => {
            Some(format!("{id} was {state}, and is {}", task.state))
        }
        Fact::Result { lease, report, state } if state.is_terminal() => {
            let same = task.state == *state
                && task.attempt == lease.attempt
                && task.result.as_ref() == Some(report)
                && (task.artifacts == report.artifacts);
            (!same).then(|| format!("{id} does not serve the result that was taken: {task:?}"))
        }
        Fact::Result { lease, .. } if task.attempt < lease.attempt => {
            Some(format!("{id} is at attempt {}, and {lease:?} has reported", task.attempt))
        }
        _ => None,
    }
}

/// The lifecycle that a reader was told to its end.
fn lifecycle(fact: &Fact, task: &Task, queue: &Arc<Queue>, found: &mut Found) {
    let Fact::Followed { events, .. } = fact else { return };
    let told: Vec<_> =
        events.iter().filter(|event| matches!(event.event.body, EventBody::State { .. })).collect();
    let Some(Some((row, count))) = found.read("the events' count", queue.row_and_events(&task.id)) else {
        return;
    };
    let Some(kept) = found.read("the events", queue.lifecycle(&task.id, row.n, 0, count)) else { return };
    let same = told.len() == kept.len()
        && told
            .iter()
            .zip(&kept)
            .all(|(told, kept)| told.event == kept.event && told.attempt == kept.attempt);
    if !same {
        found.faults.push(format!("{} had the life {told:?}, and has {kept:?}", task.id));
    }
}
