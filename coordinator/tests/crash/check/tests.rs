//! The checker is shown each fault that it is there for, and must name it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use protocol::{
    Event, EventBody, NewEvent, Task, TaskId, TaskState,
    lease::{Order, OrderKind},
    report::{Outcome, Report},
    submit::NewTask,
    task::{Artifact, Base},
};
use uuid::Uuid;

use super::faults;
use crate::{
    end::End,
    history::{Fact, History, LeaseName, When, line},
    place::{exec, queue},
};

fn lease(serial: u64, attempt: u32) -> LeaseName {
    LeaseName { task: "t".parse().unwrap(), serial, attempt }
}

fn sent() -> NewTask {
    exec("q", "t".to_owned())
}

fn patch() -> Artifact {
    Artifact { name: "patch".to_owned(), size: 1, sha256: "good".to_owned() }
}

fn report(outcome: Outcome) -> Report {
    Report { artifacts: vec![patch()], ..Report::new(outcome) }
}

fn result(lease: LeaseName, outcome: Outcome, state: TaskState) -> Fact {
    Fact::Result { lease, report: report(outcome), state }
}

fn leased(lease: LeaseName) -> Fact {
    Fact::Leased { lease, at: Timestamp::UNIX_EPOCH }
}

fn told(message: u128, seq: u64) -> Fact {
    let (task, text) = ("t".parse().unwrap(), format!("m{message}"));
    Fact::Told { task, message: Uuid::from_u128(message), seq, text }
}

fn order(seq: u64, text: &str) -> Order {
    Order { seq, kind: OrderKind::Message { text: text.to_owned() } }
}

fn beat(after: u64, orders: &[Order]) -> Fact {
    Fact::Beat { lease: lease(2, 2), after, orders: orders.to_vec() }
}

fn live(count: u64) -> Fact {
    Fact::Live([(queue("q"), count)].into())
}

fn limit(max_running: u32) -> Fact {
    Fact::Limit { queue: queue("q"), max_running }
}

/// One thing after another.
fn after_another(facts: Vec<Fact>) -> History {
    let when = |place: usize| When { asked: 2 * place as u64, answered: 2 * place as u64 + 1 };
    let facts = facts.into_iter().enumerate().map(|(place, fact)| (when(place), fact));
    History { facts: facts.collect(), max_running: 4 }
}

/// A task whose first attempt was lost and whose second succeeded.
fn good() -> Vec<Fact> {
    vec![
        Fact::Accepted(sent()),
        leased(lease(1, 1)),
        Fact::Taken { lease: lease(1, 1), verb: "start" },
        result(lease(1, 1), Outcome::Lost, TaskState::Scheduled),
        limit(2),
        live(1),
        leased(lease(2, 2)),
        Fact::Taken { lease: lease(2, 2), verb: "start" },
        told(1, 1),
        told(1, 1),
        beat(0, &[order(1, "m1")]),
        Fact::Stored { lease: lease(2, 2), lines: 2 },
        result(lease(2, 2), Outcome::Succeeded, TaskState::Succeeded),
        result(lease(2, 2), Outcome::Succeeded, TaskState::Succeeded),
        result(lease(1, 1), Outcome::Lost, TaskState::Scheduled),
        Fact::Seen { task: "t".parse().unwrap(), state: TaskState::Succeeded },
        Fact::Followed { task: "t".parse().unwrap(), events: events() },
    ]
}

fn event(seq: u64, attempt: u32, body: EventBody) -> Event {
    let event = NewEvent { at: Timestamp::UNIX_EPOCH, body, raw: None };
    Event { seq, task: "t".parse().unwrap(), attempt, event }
}

fn text(seq: u64, place: u64) -> Event {
    event(seq, 2, EventBody::Text { text: line(&lease(2, 2), place) })
}

fn events() -> Vec<Event> {
    let state = |state| EventBody::State { state, reason: None };
    let ends = event(4, 2, state(TaskState::Succeeded));
    vec![event(1, 0, state(TaskState::Ready)), text(2, 0), text(3, 1), ends]
}

fn end() -> End {
    let id: TaskId = "t".parse().unwrap();
    let task = Task {
        id: id.clone(),
        queue: queue("q"),
        state: TaskState::Succeeded,
        reason: None,
        work: sent().check().unwrap().work,
        base: Base { requested: sent().base, commit: None },
        branch: String::new(),
        priority: sent().priority,
        attempt: 2,
        max_attempts: 3,
        timeout_s: 3_600,
        budget_usd: None,
        not_before: None,
        unique_key: None,
        principal: String::new(),
        retry_of: None,
        worker: None,
        created_at: Timestamp::UNIX_EPOCH,
        since: Timestamp::UNIX_EPOCH,
        started_at: None,
        finished_at: None,
        result: Some(report(Outcome::Succeeded)),
        usage: None,
        artifacts: vec![patch()],
    };
    End {
        later: [(id.clone(), task.state)].into(),
        tasks: [(id.clone(), task)].into(),
        streams: [(id.clone(), events())].into(),
        artifacts: [((id, "patch".to_owned()), "good".to_owned())].into(),
    }
}

/// This history with the good end has this fault.
fn finds(fault: &str, change: impl FnOnce(&mut Vec<Fact>)) {
    let mut facts = good();
    change(&mut facts);
    let found = faults(&after_another(facts), &end());
    assert!(found.iter().any(|found| found.contains(fault)), "{fault:?} is not among {found:?}");
}

/// The good history with this end has this fault.
fn finds_at_end(fault: &str, change: impl FnOnce(&mut Task, &mut Vec<Event>, &mut End)) {
    let mut end = end();
    let (mut task, mut events) = (end.tasks.pop_first().unwrap().1, events());
    change(&mut task, &mut events, &mut end);
    end.tasks.insert(task.id.clone(), task);
    end.streams = BTreeMap::from([("t".parse().unwrap(), events)]);
    let found = faults(&after_another(good()), &end);
    assert!(found.iter().any(|found| found.contains(fault)), "{fault:?} is not among {found:?}");
}

#[test]
fn a_good_history_has_no_fault() {
    assert_eq!(faults(&after_another(good()), &end()), Vec::<String>::new());
}

#[test]
fn tasks_that_are_gone_changed_or_never_end() {
    let mut none = end();
    none.tasks.clear();
    let found = faults(&after_another(good()), &none);
    assert!(found.iter().any(|fault| fault.contains("is not there")), "{found:?}");
    finds_at_end("work is not what was sent", |task, _, _| {
        task.work = protocol::task::Work::Exec { argv: vec!["other".to_owned()] };
    });
    finds_at_end("never ended", |task, _, _| task.state = TaskState::Running);
    finds_at_end("and later Some(Failed)", |_, _, end| {
        end.later.insert("t".parse().unwrap(), TaskState::Failed);
    });
    let seen = |state| Fact::Seen { task: "t".parse().unwrap(), state };
    finds("was succeeded, and later ready", |facts| facts.push(seen(TaskState::Ready)));
    finds("ended otherwise", |facts| facts.insert(1, seen(TaskState::Failed)));
    finds("was refused, and is there", |facts| facts[0] = Fact::Refused("t".parse().unwrap()));
    let retried = Fact::Retried { of: "t".parse().unwrap(), id: "u".parse().unwrap() };
    finds("u was acknowledged, and is not there", |facts| facts.push(retried));
    finds("an odd answer", |facts| facts.push(Fact::Odd("what".to_owned())));
}

#[test]
fn a_key_that_two_have() {
    let with =
        |id: &str| Fact::Accepted(NewTask { unique_key: Some("k".to_owned()), ..exec("q", id.to_owned()) });
    finds("when u had taken its key", |facts| {
        facts[0] = with("t");
        facts.insert(1, with("u"));
    });
}

#[test]
fn leases_that_were_replaced() {
    let stale = Fact::Taken { lease: lease(1, 1), verb: "heartbeat" };
    finds("heartbeat of LeaseName", |facts| facts.push(stale));
    finds("a result of LeaseName", |facts| {
        facts.push(result(lease(1, 1), Outcome::Failed, TaskState::Succeeded));
    });
    finds("was answered succeeded and failed", |facts| {
        facts.push(result(lease(2, 2), Outcome::Succeeded, TaskState::Failed));
    });
    finds("two reports", |facts| facts.push(result(lease(2, 2), Outcome::Failed, TaskState::Failed)));
    finds("ended by two leases", |facts| {
        facts.insert(3, result(lease(1, 1), Outcome::Failed, TaskState::Failed));
    });
    finds("was answered failed", |facts| {
        facts[12] = result(lease(2, 2), Outcome::Succeeded, TaskState::Failed);
    });
    finds_at_end("not by LeaseName", |task, _, _| task.attempt = 3);
    finds_at_end("does not serve the report", |task, _, _| task.result = None);
    finds_at_end("the artifact patch", |_, _, end| end.artifacts.clear());
}

#[test]
fn leases_against_their_terms() {
    finds_at_end("over the attempts", |task, _, _| task.max_attempts = 1);
    let later = Some(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1));
    finds("before its time", |facts| facts[0] = Fact::Accepted(NewTask { not_before: later, ..sent() }));
    let held = Fact::Accepted(NewTask { approval: true, ..sent() });
    finds("before it was approved", |facts| {
        facts[0] = held;
        facts.push(Fact::Approved("t".parse().unwrap()));
    });
    finds("before it was approved", |facts| {
        facts.insert(1, Fact::Seen { task: "t".parse().unwrap(), state: TaskState::Held });
    });
}

#[test]
fn more_than_may_run() {
    finds("3 of q ran at once, and 2 may", |facts| facts.push(live(3)));
    finds("5 ran at once, and 4 may", |facts| facts.push(live(5)));
    let lowered = [limit(3), live(3), limit(1), live(3), live(2), live(1)];
    let found = faults(&after_another([good(), lowered.to_vec()].concat()), &end());
    assert_eq!(found, Vec::<String>::new());
    finds("2 of q ran at once, and 1 may", |facts| facts.extend([limit(1), live(1), live(2)]));
}

#[test]
fn events_that_are_lost_repeated_or_told_otherwise() {
    finds_at_end("is not 1, 2, 3", |_, events, _| events[2].seq = 7);
    finds_at_end("did not say this", |_, events, _| {
        events.insert(2, text(3, 0));
        (4..=5).zip(&mut events[3..]).for_each(|(seq, event)| event.seq = seq);
    });
    finds_at_end("2 events of LeaseName", |_, events, _| {
        events.remove(2);
        events[2].seq = 3;
    });
    finds_at_end("does not end once", |_, events, _| events.truncate(3));
    finds_at_end("nobody told t of", |_, events, _| {
        events[1].event.body = EventBody::Dropped { bytes: 1 };
    });
    finds_at_end("was not told of", |_, events, _| {
        let reason = Some("not_started".to_owned());
        events[0].event.body = EventBody::State { state: TaskState::Ready, reason };
    });
    let otherwise = Fact::Followed { task: "t".parse().unwrap(), events: events()[1..].to_vec() };
    finds("was told something else", |facts| facts.push(otherwise));
}

#[test]
fn messages_that_are_lost_renumbered_or_mixed_up() {
    finds("has two numbers", |facts| facts[9] = told(1, 2));
    finds("got orders", |facts| facts[10] = beat(0, &[order(2, "m1")]));
    finds("is two things", |facts| facts.insert(11, beat(0, &[order(1, "other")])));
    finds("was not told order 1", |facts| facts[10] = beat(0, &[]));
    finds("not \"m1\"", |facts| facts[10] = beat(0, &[order(1, "other")]));
}
