//! Every acknowledged task is there as it was sent, and ends in one state that never changes.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Task, TaskId, TaskState, submit::NewTask};

use crate::{
    end::End,
    history::{Fact, History},
};

pub(super) fn check(history: &History, end: &End, faults: &mut Vec<String>) {
    let mut accepted: BTreeSet<&str> = BTreeSet::new();
    for (_, fact) in &history.facts {
        match fact {
            Fact::Accepted(sent) => {
                let Some(id) = &sent.id else { continue };
                accepted.insert(id);
                match end.tasks.iter().find_map(|(known, task)| (known.as_str() == id).then_some(task)) {
                    None => faults.push(format!("{id} was acknowledged, and is not there")),
                    Some(task) => faults.extend(differs(sent, task)),
                }
            }
            Fact::Retried { of, id } => {
                accepted.insert(id.as_str());
                let same = |task: &Task| {
                    let old = end.tasks.get(of);
                    task.retry_of.as_ref() == Some(of) && old.is_some_and(|old| old.work == task.work)
                };
                match end.tasks.get(id) {
                    None => faults.push(format!("{id} was acknowledged, and is not there")),
                    Some(task) if same(task) => {}
                    Some(_) => faults.push(format!("{id} does not repeat {of}")),
                }
            }
            Fact::Odd(what) => faults.push(format!("an odd answer: {what}")),
            _ => {}
        }
    }
    for (_, fact) in &history.facts {
        match fact {
            Fact::Refused(id) if !accepted.contains(id.as_str()) && end.tasks.contains_key(id) => {
                faults.push(format!("{id} was refused, and is there"));
            }
            _ => {}
        }
    }
    for (id, task) in &end.tasks {
        if !task.state.is_terminal() {
            faults.push(format!("{id} never ended: it is {}", task.state));
        } else if end.later.get(id) != Some(&task.state) {
            faults.push(format!("{id} was {} at the end, and later {:?}", task.state, end.later.get(id)));
        }
    }
    seen(history, end, faults);
    keys(history, faults);
}

/// How a task differs from what was sent. What a retry after a crash sent again is the same.
pub(crate) fn differs(sent: &NewTask, task: &Task) -> Option<String> {
    let id = &task.id;
    let Ok(wanted) = sent.clone().check() else {
        return Some(format!("{id} should never have been taken in"));
    };
    let fields = [
        ("work", wanted.work == task.work),
        ("queue", wanted.queue == task.queue),
        ("base", wanted.base == task.base.requested),
        ("priority", wanted.priority == task.priority),
        ("max_attempts", wanted.max_attempts == task.max_attempts),
        ("timeout_s", wanted.timeout.as_secs() == task.timeout_s),
        ("not_before", wanted.not_before == task.not_before),
        ("unique_key", wanted.unique_key == task.unique_key),
    ];
    let others: Vec<_> = fields.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect();
    (!others.is_empty()).then(|| format!("{id}: {} is not what was sent", others.join(", ")))
}

/// A terminal state, once seen, is the state of every later look and of the end.
fn seen(history: &History, end: &End, faults: &mut Vec<String>) {
    let mut ended: BTreeMap<&TaskId, (u64, TaskState)> = BTreeMap::new();
    for (when, fact) in &history.facts {
        let Fact::Seen { task, state } = fact else { continue };
        if let Some((since, last)) = ended.get(task)
            && when.asked > *since
            && state != last
        {
            faults.push(format!("{task} was {last}, and later {state}"));
        }
        if state.is_terminal() {
            ended.entry(task).or_insert((when.answered, *state));
            if end.tasks.get(task).is_some_and(|task| task.state != *state) {
                faults.push(format!("{task} was seen as {state}, and ended otherwise"));
            }
        }
    }
}

/// A key's next task was taken in: nothing more is heard of the one before.
fn keys(history: &History, faults: &mut Vec<String>) {
    let mut taken: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut first: BTreeSet<&str> = BTreeSet::new();
    for (when, fact) in &history.facts {
        let Fact::Accepted(NewTask { id: Some(id), queue, unique_key: Some(key), .. }) = fact else {
            continue;
        };
        if first.insert(id) {
            taken.entry((queue, key)).or_default().push((when, id));
        }
    }
    for holders in taken.values() {
        for (when, fact) in &history.facts {
            let (Fact::Leased { lease, .. } | Fact::Taken { lease, .. }) = fact else { continue };
            let Some((own, _)) = holders.iter().find(|(_, id)| *id == lease.task.as_str()) else { continue };
            // Taken in after this one, and before this was asked.
            let mut next =
                holders.iter().filter(|(next, _)| next.asked > own.answered && next.answered < when.asked);
            if let Some((_, next)) = next.next() {
                faults.push(format!("{} still ran when {next} had taken its key", lease.task));
            }
        }
    }
}
