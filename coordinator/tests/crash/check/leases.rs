//! One lease at a time, one result a task, and nothing taken from a lease that another has replaced.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    Task, TaskId, TaskState,
    report::{Outcome, Report},
    submit::NewTask,
};

use crate::{
    end::End,
    history::{Fact, History, LeaseName, When},
};

/// Results that were taken.
type Results<'a> = BTreeMap<&'a TaskId, Vec<(When, &'a LeaseName, &'a Report, TaskState)>>;

pub(super) fn check(history: &History, end: &End, faults: &mut Vec<String>) {
    let mut leases: BTreeMap<&TaskId, Vec<(When, &LeaseName)>> = BTreeMap::new();
    let mut results = Results::new();
    for (when, fact) in &history.facts {
        match fact {
            Fact::Leased { lease, .. } => leases.entry(&lease.task).or_default().push((*when, lease)),
            Fact::Result { lease, report, state } => {
                results.entry(&lease.task).or_default().push((*when, lease, report, *state));
            }
            _ => {}
        }
    }
    let newer = |lease: &LeaseName, asked: u64| {
        let of_task = leases.get(&lease.task).into_iter().flatten();
        of_task.filter(|(when, other)| other.serial > lease.serial && when.answered < asked).count() > 0
    };
    for (when, fact) in &history.facts {
        if let Fact::Taken { lease, verb } = fact
            && *verb != "result"
            && newer(lease, when.asked)
        {
            faults.push(format!("{verb} of {lease:?} was taken when another lease had replaced it"));
        }
    }
    for (task, taken) in &results {
        for (_, lease, report, state) in taken {
            // The same report is answered alike for ever; it was taken when it was first asked for, or before.
            let alike = taken.iter().filter(|(_, other, same, _)| other == lease && same == report);
            let first = alike.clone().map(|(when, ..)| when.asked).min().unwrap_or(0);
            if newer(lease, first) {
                faults.push(format!("a result of {lease:?} was taken when another lease had replaced it"));
            }
            for (.., other) in alike {
                if other != state {
                    faults.push(format!("one report of {lease:?} was answered {state} and {other}"));
                }
            }
        }
        for (_, lease, report, _) in taken {
            if taken.iter().any(|(_, other, another, _)| other == lease && another != report) {
                faults.push(format!("two reports of {lease:?} were taken"));
            }
        }
        if let Some(task) = end.tasks.get(*task) {
            last(task, taken, end, faults);
        }
    }
    terms(history, end, faults);
}

/// The one that ended it is its last attempt's, and all of it is served.
fn last(task: &Task, taken: &[(When, &LeaseName, &Report, TaskState)], end: &End, faults: &mut Vec<String>) {
    let id = &task.id;
    let ends: Vec<_> = taken.iter().filter(|(.., state)| state.is_terminal()).collect();
    for (_, lease, report, state) in &ends {
        if ends.iter().any(|(_, other, ..)| other != lease) {
            faults.push(format!("{id} was ended by two leases"));
        }
        let word = |outcome| match outcome {
            Outcome::Succeeded => TaskState::Succeeded,
            Outcome::Failed => TaskState::Failed,
            Outcome::TimedOut => TaskState::TimedOut,
            Outcome::Cancelled => TaskState::Cancelled,
            Outcome::Lost => TaskState::Lost,
        };
        // Nobody wants a lost task again that was cancelled.
        let cancelled = report.outcome == Outcome::Lost && *state == TaskState::Cancelled;
        if *state != word(report.outcome) && !cancelled {
            faults.push(format!("{id}: the report {:?} was answered {state}", report.outcome));
        }
        if task.state != *state || task.attempt != lease.attempt {
            faults.push(format!(
                "{id} ended as {} of attempt {}, not by {lease:?} as {state}",
                task.state, task.attempt
            ));
        }
        if task.result.as_ref() != Some(report) {
            faults.push(format!("{id} does not serve the report that was taken: {:?}", task.result));
        }
        for artifact in &report.artifacts {
            let found = end.artifacts.get(&(id.clone(), artifact.name.clone()));
            if found != Some(&artifact.sha256) {
                faults.push(format!("{id}: the artifact {} is {found:?}", artifact.name));
            }
        }
    }
}

/// Nobody has a task before its time, before its approval, or more often than it may be tried.
fn terms(history: &History, end: &End, faults: &mut Vec<String>) {
    let mut sent: BTreeMap<&str, &NewTask> = BTreeMap::new();
    let mut approved: BTreeMap<&str, u64> = BTreeMap::new();
    let mut held: BTreeSet<&TaskId> = BTreeSet::new();
    for (when, fact) in &history.facts {
        match fact {
            Fact::Accepted(task) => {
                sent.insert(task.id.as_deref().unwrap_or_default(), task);
            }
            Fact::Approved(id) => {
                approved.entry(id.as_str()).or_insert(when.asked);
            }
            // The mirrors have every base: nothing but its approval holds a task.
            Fact::Seen { task, state: TaskState::Held } => {
                held.insert(task);
            }
            _ => {}
        }
    }
    for (when, fact) in &history.facts {
        let Fact::Leased { lease, at, .. } = fact else { continue };
        let task = &lease.task;
        if end.tasks.get(task).is_some_and(|task| lease.attempt > task.max_attempts) {
            faults.push(format!("{lease:?} is over the attempts that it may have"));
        }
        let sent = sent.get(task.as_str());
        if sent.and_then(|sent| sent.not_before).is_some_and(|then| *at < then) {
            faults.push(format!("{task} was leased at {at}, before its time"));
        }
        let waits = sent.is_some_and(|sent| sent.approval) || held.contains(task);
        if waits && approved.get(task.as_str()).is_none_or(|asked| *asked > when.answered) {
            faults.push(format!("{task} was leased before it was approved"));
        }
    }
}
