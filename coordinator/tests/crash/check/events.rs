//! Each acknowledged event is on its stream once, in its place, and every reader was told the same.

use std::collections::BTreeMap;

use protocol::{Event, EventBody, TaskId, TaskState};

use crate::{
    end::End,
    history::{Fact, History, LeaseName, line},
};

pub(super) fn check(history: &History, end: &End, faults: &mut Vec<String>) {
    let mut stored: BTreeMap<&LeaseName, u64> = BTreeMap::new();
    for (_, fact) in &history.facts {
        match fact {
            Fact::Stored { lease, lines } => {
                let most = stored.entry(lease).or_default();
                *most = (*most).max(*lines);
            }
            Fact::Followed { task, events } if end.streams.get(task) != Some(events) => {
                let at = first_difference(events, end.streams.get(task));
                faults.push(format!("a reader of {task} was told something else than its stream says: {at}"));
            }
            _ => {}
        }
    }
    for (task, events) in &end.streams {
        unknown_lease(task, events, faults);
        stream(task, events, end, faults);
        texts(task, events, &stored, faults);
    }
}

/// Workers ask until they are answered, and leave nothing undone: a lease that goes back because it was not started,
/// or because its worker went home, is one that its worker was never told of.
fn unknown_lease(task: &TaskId, events: &[Event], faults: &mut Vec<String>) {
    for event in events {
        if let EventBody::State { reason: Some(reason), .. } = &event.event.body
            && matches!(reason.as_str(), "not_started" | "worker_gone" | "lease_expired")
        {
            faults.push(format!("{task} had a lease that its worker was not told of: {event:?}"));
        }
    }
}

fn first_difference(told: &[Event], stream: Option<&Vec<Event>>) -> String {
    let stream = stream.map_or(&[][..], Vec::as_slice);
    let place = told.iter().zip(stream).take_while(|(a, b)| a == b).count();
    format!("told {:?}, stream {:?}", told.get(place), stream.get(place))
}

fn stream(task: &TaskId, events: &[Event], end: &End, faults: &mut Vec<String>) {
    if !events.iter().map(|event| event.seq).eq(1..=events.len() as u64) {
        faults.push(format!("the stream of {task} is not 1, 2, 3 …"));
    }
    let states: Vec<TaskState> = events
        .iter()
        .filter_map(|event| match event.event.body {
            EventBody::State { state, .. } => Some(state),
            _ => None,
        })
        .collect();
    let last_is_state = matches!(events.last().map(|event| &event.event.body), Some(EventBody::State { .. }));
    let ends = states.iter().filter(|state| state.is_terminal()).count();
    if !last_is_state || ends != 1 || states.last() != end.tasks.get(task).map(|task| &task.state) {
        faults.push(format!("the stream of {task} does not end once, with its end: {states:?}"));
    }
}

/// Those of one attempt are its first, second, third …, and as many as were acknowledged at least.
fn texts(task: &TaskId, events: &[Event], stored: &BTreeMap<&LeaseName, u64>, faults: &mut Vec<String>) {
    let mut found: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for event in events {
        match &event.event.body {
            EventBody::Text { text } => found.entry(event.attempt).or_default().push(text),
            EventBody::State { .. } => {}
            other => faults.push(format!("nobody told {task} of {other:?}")),
        }
    }
    for (attempt, texts) in &found {
        let lease = LeaseName { task: task.clone(), serial: 0, attempt: *attempt };
        if !texts.iter().enumerate().all(|(place, text)| **text == line(&lease, place as u64)) {
            faults.push(format!("attempt {attempt} of {task} did not say this: {texts:?}"));
        }
    }
    for (lease, lines) in stored.iter().filter(|(lease, _)| lease.task == *task) {
        let count = found.get(&lease.attempt).map_or(0, |texts| texts.len() as u64);
        if count < *lines {
            faults.push(format!("{lines} events of {lease:?} were acknowledged, and {count} are there"));
        }
    }
}
