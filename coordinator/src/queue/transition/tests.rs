//! The rules, held against random lives.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use protocol::{TaskState, WorkerId, limits, report::Outcome};
use uuid::Uuid;

use super::{Approval, Change, Command, End, RUN_MARGIN, Refusal, Row, Stand, after, transition};
use crate::tokens::Claim;

const REQUEST: Uuid = Uuid::from_u128(7);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn worker(name: &str) -> WorkerId {
    name.parse().unwrap()
}

fn ready(max_attempts: u32) -> Row {
    Row {
        n: 1,
        id: "t".parse().unwrap(),
        queue: "q".parse().unwrap(),
        agent: false,
        max_attempts,
        timeout: Duration::from_secs(100),
        attempt: 0,
        serial: 0,
        stand: Stand::Ready { not_before: None },
        reason: None,
        worker: None,
        base_commit: Some("c".repeat(40)),
        started_at: None,
        since: at(0),
        not_before: None,
        approval: Approval::NotAsked,
        orders: 0,
        events: 1,
    }
}

fn go(row: &Row, command: &Command, now: i64) -> Row {
    match transition(row, command, at(now)) {
        Ok(Change::To(next)) => *next,
        other => panic!("{command:?} on {row:?}: {other:?}"),
    }
}

fn lease(row: &Row, now: i64) -> Row {
    go(row, &Command::Lease { worker: worker("w"), request: REQUEST }, now)
}

fn run(row: &Row, now: i64) -> Row {
    let leased = lease(row, now);
    go(&leased, &Command::Start(leased.claim()), now)
}

fn claims() -> impl Strategy<Value = Claim> {
    (0_u32..4, 0_u64..6).prop_map(|(attempt, serial)| Claim { attempt, serial })
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Succeeded),
        Just(Outcome::Failed),
        Just(Outcome::TimedOut),
        Just(Outcome::Cancelled),
        Just(Outcome::Lost)
    ]
}

fn commands() -> impl Strategy<Value = Command> {
    let workers = || prop_oneof![Just(worker("w")), Just(worker("v"))];
    prop_oneof![
        Just(Command::Pin { commit: "c".repeat(40) }),
        Just(Command::RefuseSource { reason: "source_missing: x".to_owned() }),
        Just(Command::PutOffSource { reason: "source: source_timeout: x".to_owned() }),
        Just(Command::Due),
        Just(Command::Hasten),
        workers().prop_map(|worker| Command::Lease { worker, request: REQUEST }),
        claims().prop_map(Command::Start),
        (claims(), 0_i64..200).prop_map(|(claim, then)| Command::GiveBack {
            claim,
            reason: "r".to_owned(),
            not_before: at(then)
        }),
        (claims(), outcomes()).prop_map(|(claim, outcome)| Command::Finish { claim, outcome, reason: None }),
        Just(Command::Cancel { grace_s: 1 }),
        Just(Command::Approve),
        Just(Command::Message { text: "m".to_owned(), id: None }),
        claims().prop_map(Command::NotStarted),
        claims().prop_map(Command::Lapse),
        claims().prop_map(Command::Overrun),
        workers().prop_map(|worker| Command::WorkerGone { worker, reason: "oom".to_owned() }),
    ]
}

const fn claim_of_mut(command: &mut Command) -> Option<&mut Claim> {
    match command {
        Command::Start(claim) | Command::NotStarted(claim) => Some(claim),
        Command::Lapse(claim) | Command::Overrun(claim) => Some(claim),
        Command::GiveBack { claim, .. } | Command::Finish { claim, .. } => Some(claim),
        _ => None,
    }
}

proptest! {
    #[test]
    fn no_life_breaks_a_rule(
        max_attempts in 1_u32..4,
        held in any::<bool>(),
        approval in prop_oneof![Just(Approval::NotAsked), Just(Approval::Awaited)],
        not_before in proptest::option::of((0_i64..100).prop_map(at)),
        steps in proptest::collection::vec((commands(), any::<bool>(), 0_i64..40), 1..60),
    ) {
        let mut row = ready(max_attempts);
        row = Row { agent: true, approval, not_before, ..row };
        if held {
            row.base_commit = None;
        }
        (row.stand, row.reason) = row.unleased(at(0));
        let mut now = 0;
        for (mut command, genuine, seconds) in steps {
            now += seconds;
            if let Some(claim) = claim_of_mut(&mut command) && genuine {
                *claim = row.claim();
            }
            let outcome = transition(&row, &command, at(now));
            let Ok(change) = outcome else { continue };
            let next = match change {
                Change::Nothing => row.clone(),
                Change::To(next) => *next,
            };
            prop_assert!(!row.state().is_terminal() || next == row, "{command:?} changed {row:?}");
            if let Some(&mut claim) = claim_of_mut(&mut command) {
                prop_assert_eq!(claim, row.claim());
                prop_assert!(row.state() == TaskState::Leased || row.state() == TaskState::Running);
            }
            prop_assert!(next.attempt <= next.max_attempts);
            prop_assert!(next.serial >= row.serial);
            // Only a lease makes a new token, and no two leases have the same.
            prop_assert_eq!(next.serial > row.serial, matches!(command, Command::Lease { .. }));
            // An attempt counts when it was started, and is never taken back then.
            let unstarted = matches!(row.stand, Stand::Leased { .. });
            prop_assert!(next.attempt >= row.attempt || unstarted);
            if matches!(next.stand, Stand::Running { .. }) {
                prop_assert!(next.started_at.is_some() && next.attempt > 0);
            }
            // Nobody takes it before its source, its owner and its time allow.
            if matches!(next.stand, Stand::Leased { .. }) {
                prop_assert!(next.base_commit.is_some() && next.approval != Approval::Awaited);
                prop_assert!(next.not_before.is_none_or(|then| then <= at(now)));
            }
            // Orders are for those that run, and none is forgotten.
            let told = next.orders - row.orders;
            prop_assert!(told == 0 || (told == 1 && next.state() == TaskState::Running));
            prop_assert_eq!(next.since == row.since, next.state() == row.state() || row.since == at(now));
            prop_assert_eq!(next.events - row.events, u64::from(next.state() != row.state()));
            // What the rules do not touch.
            prop_assert_eq!((&next.id, &next.queue, next.n), (&row.id, &row.queue, row.n));
            row = next;
        }
    }

    #[test]
    fn a_started_task_ends_within_its_attempts(outcome in outcomes(), max_attempts in 1_u32..5) {
        let mut row = ready(max_attempts);
        let mut started = 0;
        for round in 0.. {
            row = run(&row, round * 1_000);
            started += 1;
            row = go(&row, &Command::Finish { claim: row.claim(), outcome, reason: None }, round * 1_000 + 1);
            if row.state().is_terminal() {
                break;
            }
            row = go(&row, &Command::Due, round * 1_000 + 999);
        }
        prop_assert_eq!(started, if outcome == Outcome::Lost { max_attempts } else { 1 });
    }
}

#[test]
fn a_lease_that_is_not_started_burns_no_attempt() {
    let row = lease(&ready(1), 0);
    assert_eq!((row.attempt, row.serial), (1, 1));
    let stand = Stand::Leased { request: REQUEST, start_before: after(at(0), limits::START_WITHIN) };
    assert_eq!(row.stand, stand);
    let back = go(&row, &Command::NotStarted(row.claim()), 30);
    assert_eq!((back.state(), back.attempt), (TaskState::Ready, 0));
    let again = lease(&back, 31);
    assert_eq!((again.attempt, again.serial), (1, 2));
    // The first lease is over, though its attempt has the same number.
    assert_eq!(transition(&again, &Command::Start(row.claim()), at(31)), Err(Refusal::LeaseLost));
}

#[test]
fn what_the_reaper_saw_before_a_start_does_nothing_to_the_run() {
    let leased = lease(&ready(1), 0);
    let running = go(&leased, &Command::Start(leased.claim()), 30);
    let seen = Command::NotStarted(leased.claim());
    assert_eq!(transition(&running, &seen, at(30)), Err(Refusal::LeaseLost));
    assert_eq!(transition(&leased, &Command::Lapse(leased.claim()), at(30)), Err(Refusal::LeaseLost));
}

#[test]
fn a_pause_is_kept() {
    let row = lease(&ready(1), 0);
    let command = Command::GiveBack {
        claim: row.claim(),
        reason: "gateway_unavailable".to_owned(),
        not_before: at(10),
    };
    let back = go(&row, &command, 5);
    let lease = Command::Lease { worker: worker("v"), request: REQUEST };
    assert_eq!(transition(&back, &lease, at(9)), Err(Refusal::WrongState));
    assert_eq!(go(&back, &lease, 10).state(), TaskState::Leased);
}

#[test]
fn lost_attempts_come_back_later_and_later_until_they_have_run_out() {
    let mut row = ready(3);
    let mut pauses = Vec::new();
    for _ in 0..2 {
        row = run(&row, 0);
        row = go(&row, &Command::Lapse(row.claim()), 100);
        let Stand::Scheduled { due } = row.stand else { panic!("{row:?}") };
        pauses.push(due.duration_since(at(100)).as_millis());
        assert_eq!(transition(&row, &Command::Due, due - Duration::from_millis(1)), Err(Refusal::WrongState));
        row = go(&row, &Command::Due, 1_000);
    }
    assert!((1_000..=1_500).contains(&pauses[0]) && (4_000..=6_000).contains(&pauses[1]), "{pauses:?}");
    row = run(&row, 2_000);
    row = go(&row, &Command::WorkerGone { worker: worker("w"), reason: "oom".to_owned() }, 2_001);
    assert_eq!(row.stand, Stand::Ended { how: End::Lost, at: at(2_001) });
    assert_eq!(row.reason.as_deref(), Some("oom"));
}

#[test]
fn a_cancelled_run_ends_cancelled_however_its_worker_goes() {
    let cancelled = go(&run(&ready(3), 0), &Command::Cancel { grace_s: 1 }, 1);
    assert_eq!(cancelled.state(), TaskState::Running);
    assert_eq!(transition(&cancelled, &Command::Cancel { grace_s: 1 }, at(2)), Ok(Change::Nothing));
    let claim = cancelled.claim();
    let gone = Command::WorkerGone { worker: worker("w"), reason: "killed".to_owned() };
    let lost = Command::Finish { claim, outcome: Outcome::Lost, reason: None };
    for command in [Command::Lapse(claim), Command::Overrun(claim), gone, lost] {
        assert_eq!(go(&cancelled, &command, 9).state(), TaskState::Cancelled, "{command:?}");
    }
    // It had finished before the order came.
    let done = Command::Finish { claim, outcome: Outcome::Succeeded, reason: None };
    assert_eq!(go(&cancelled, &done, 9).state(), TaskState::Succeeded);
}

#[test]
fn what_no_worker_runs_is_cancelled_at_once() {
    let held = Row { stand: Stand::Held, base_commit: None, ..ready(1) };
    let scheduled = Row { stand: Stand::Scheduled { due: at(9) }, ..ready(1) };
    for row in [held, scheduled, ready(1), lease(&ready(1), 0)] {
        assert_eq!(go(&row, &Command::Cancel { grace_s: 1 }, 1).state(), TaskState::Cancelled, "{row:?}");
    }
}

#[test]
fn a_run_has_a_hard_end() {
    let row = run(&ready(1), 0);
    let Stand::Running { end_before, .. } = row.stand else { panic!("{row:?}") };
    assert_eq!(end_before, after(at(0), limits::START_WITHIN + Duration::from_secs(100) + RUN_MARGIN));
    assert_eq!(go(&row, &Command::Overrun(row.claim()), 2_000).state(), TaskState::TimedOut);
}
