//! What `docs/protocol.md` promises of a task's life, an example each. The model is asked beside the store, so that
//! an example that it does not know of fails too.

use protocol::{
    Code::{QueueDraining, TaskIdTaken, UniqueKeyTaken, WrongKey},
    TaskState::{Cancelled, Failed, Held, Leased, Lost, Ready, Running, Scheduled, Succeeded, TimedOut},
    queue::QueueMode,
    report::Outcome,
    task::Priority,
};

use crate::{
    both::{Both, finish, heartbeat, held, lease, lease_lost, why, wrong_state},
    commands::{Answer, Base, Command, Draft, Ledger, Order, TIMEOUT, draft},
};

#[test]
fn a_terminal_state_never_changes() {
    let mut both = Both::open();
    let lease = both.start(draft(1));
    both.done([finish(lease, Outcome::Succeeded)]);
    assert_eq!(both.ask(Command::Cancel(1)), wrong_state(Succeeded));
    assert_eq!(both.ask(Command::Approve(1)), wrong_state(Succeeded));
    assert_eq!(both.ask(finish(lease, Outcome::Failed)), lease_lost(Succeeded));
    both.wait(20_000);
    both.done([Command::EndWorker(0), Command::Crash, Command::Reap]);
    assert_eq!(both.task(1), (Succeeded, 1, why("w1")));
}

#[test]
fn a_task_is_held_until_its_base_is_one_commit() {
    let mut both = Both::open();
    let branch = |id| Draft { base: Base::Branch, ..draft(id) };
    both.done([Command::Submit(vec![branch(1), branch(2), draft(3)])]);
    assert_eq!(both.task(1), (Held, 0, why("source")));
    assert_eq!(both.state(3), Ready, "the mirror is known to have its commit");
    both.done([Command::Pin(1), Command::RefuseSource(2)]);
    assert_eq!(both.state(1), Ready);
    assert_eq!(both.task(2), (Failed, 0, why("no_base")));
    // From now on the mirror is known to have this commit too.
    both.done([Command::Submit(vec![Draft { base: Base::Commit, ..draft(4) }])]);
    assert_eq!(both.state(4), Ready);
}

#[test]
fn a_task_that_waits_for_approval_is_held_until_then() {
    let mut both = Both::open();
    both.done([Command::Submit(vec![Draft { approval: true, ..draft(1) }])]);
    assert_eq!(both.task(1), (Held, 0, why("approval")));
    assert_eq!(both.ask(lease(1)), Answer::NoTask);
    both.done([Command::Crash, Command::Approve(1), Command::Approve(1)]);
    assert_eq!(both.state(1), Ready);
    both.done([Command::Submit(vec![draft(2)])]);
    assert_eq!(both.ask(Command::Approve(2)), wrong_state(Ready));
}

#[test]
fn a_task_is_scheduled_until_its_time() {
    let mut both = Both::open();
    both.done([Command::Submit(vec![Draft { not_before: Some(40), ..draft(1) }])]);
    both.wait(39);
    assert_eq!(both.state(1), Scheduled);
    assert_eq!(both.ask(lease(1)), Answer::NoTask);
    both.wait(1);
    assert_eq!(both.state(1), Ready);
}

#[test]
fn lost_attempts_come_back_later_and_later() {
    let mut both = Both::open();
    both.done([Command::Submit(vec![Draft { attempts: 5, ..draft(1) }])]);
    for (attempt, pause) in (1..).zip([1, 4, 16, 60]) {
        both.done([
            lease(attempt),
            Command::Start(held(1, attempt)),
            finish(held(1, attempt), Outcome::Lost),
        ]);
        assert_eq!(both.task(1), (Scheduled, attempt.into(), why("w1")));
        both.wait(pause - 1);
        assert_eq!(both.state(1), Scheduled, "before {pause} s");
        both.wait(1 + pause.div_ceil(2));
        assert_eq!(both.state(1), Ready, "half as long again as {pause} s");
    }
}

#[test]
fn every_call_of_a_worker_names_its_lease() {
    let mut both = Both::open();
    both.start(draft(1));
    both.start(draft(2));
    let (foreign, forged) = (held(1, 2), held(1, 9));
    for lease in [foreign, forged] {
        for command in [
            Command::Start(lease),
            heartbeat(lease, 0),
            Command::GiveBack { lease, pause: 0 },
            finish(lease, Outcome::Succeeded),
        ] {
            assert_eq!(both.ask(command), lease_lost(Running));
        }
    }
}

#[test]
fn a_stale_lease_changes_nothing() {
    let mut both = Both::open();
    let stale = both.start(draft(1));
    both.wait(45);
    both.wait(2);
    both.done([lease(2)]);
    assert_eq!(both.ask(Command::Start(stale)), lease_lost(Leased));
    both.done([Command::Start(held(1, 2))]);
    assert_eq!(both.ask(heartbeat(stale, 0)), lease_lost(Running));
    assert_eq!(both.ask(finish(stale, Outcome::Succeeded)), lease_lost(Running));
    both.done([finish(held(1, 2), Outcome::Failed)]);
    assert_eq!(both.ask(finish(stale, Outcome::Succeeded)), lease_lost(Failed));
}

#[test]
fn a_lease_that_is_not_started_goes_back_and_burns_no_attempt() {
    let mut both = Both::open();
    both.done([Command::Submit(vec![Draft { attempts: 1, ..draft(1) }]), lease(1)]);
    both.wait(29);
    assert_eq!(both.task(1), (Leased, 1, None));
    both.wait(30);
    assert_eq!(both.task(1), (Ready, 0, why("not_started")));
    both.done([lease(2)]);
    // Of the same attempt, and another lease.
    assert_eq!(both.ask(Command::Start(held(1, 1))), lease_lost(Leased));
    both.done([Command::GiveBack { lease: held(1, 2), pause: 0 }]);
    assert_eq!(both.task(1), (Ready, 0, why("back")));
}

#[test]
fn a_started_lease_lives_on_its_heartbeats() {
    let mut both = Both::open();
    let lease = both.start(draft(1));
    for _ in 0..3 {
        both.wait(44);
        assert_eq!(both.ask(heartbeat(lease, 0)), Answer::Orders(Vec::new()));
    }
    both.wait(45);
    assert_eq!(both.task(1), (Scheduled, 1, why("lease_expired")));
    assert_eq!(both.ask(heartbeat(lease, 0)), lease_lost(Scheduled));
}

#[test]
fn a_run_that_only_beats_has_a_hard_end() {
    let mut both = Both::open();
    let lease = both.start(draft(1));
    let hard_end = 30 + TIMEOUT + 600;
    both.done([Command::Advance(hard_end - 1), heartbeat(lease, 0), Command::Reap]);
    assert_eq!(both.state(1), Running);
    both.done([Command::Advance(40), heartbeat(lease, 0), Command::Reap]);
    assert_eq!(both.task(1), (TimedOut, 1, why("overrun")));
    // One that was to stop, and beat on instead, was cancelled.
    let lease = both.start(draft(2));
    both.done([Command::Cancel(2), Command::Advance(hard_end + 40), heartbeat(lease, 1), Command::Reap]);
    assert_eq!(both.task(2), (Cancelled, 1, why("overrun")));
}

#[test]
fn lost_attempts_are_tried_again_and_failed_ones_are_not() {
    let mut both = Both::open();
    both.done([Command::Submit(vec![Draft { attempts: 2, ..draft(1) }])]);
    both.done([lease(1), Command::Start(held(1, 1)), Command::EndWorker(0)]);
    assert_eq!(both.task(1), (Scheduled, 1, why("gone")));
    assert_eq!(both.ask(lease(2)), Answer::Refused(WrongKey, None), "that worker has ended");
    both.wait(2);
    both.done([Command::Lease { worker: 2, request: 2 }, Command::Start(held(1, 2))]);
    both.wait(45);
    assert_eq!(both.task(1), (Lost, 2, why("lease_expired")));
    both.done([Command::Submit(vec![draft(2)]), Command::Lease { worker: 2, request: 3 }]);
    both.done([Command::Start(held(2, 3)), finish(held(2, 3), Outcome::Failed)]);
    assert_eq!(both.task(2), (Failed, 1, why("w1")));
}

#[test]
fn a_cancelled_task_ends_at_once_where_it_does_not_run() {
    let mut both = Both::open();
    let later = Draft { not_before: Some(9), ..draft(3) };
    both.done([Command::Submit(vec![draft(1), Draft { base: Base::Branch, ..draft(2) }, later, draft(4)])]);
    both.done([lease(1)]);
    assert_eq!([1, 2, 3, 4].map(|id| both.state(id)), [Leased, Held, Scheduled, Ready]);
    for id in 1..=4 {
        both.done([Command::Cancel(id)]);
        assert_eq!(both.task(id), (Cancelled, 0, None));
    }
    assert_eq!(both.ask(Command::Start(held(1, 1))), lease_lost(Cancelled));
}

#[test]
fn a_running_task_is_cancelled_by_an_order_to_its_worker() {
    let mut both = Both::open();
    let lease = both.start(draft(1));
    both.done([Command::Cancel(1), Command::Cancel(1), Command::Crash]);
    assert_eq!(both.ask(heartbeat(lease, 0)), Answer::Orders(vec![(1, Order::Cancel)]));
    assert_eq!(both.ask(heartbeat(lease, 1)), Answer::Orders(Vec::new()), "it was carried out");
    both.done([finish(lease, Outcome::Cancelled)]);
    assert_eq!(both.state(1), Cancelled);
    // Its worker may die of it instead: it is not tried again.
    both.start(draft(2));
    both.done([Command::Cancel(2)]);
    both.wait(45);
    assert_eq!(both.task(2), (Cancelled, 1, why("lease_expired")));
}

#[test]
fn what_an_agent_was_told_it_is_told_again_in_the_next_attempt() {
    let mut both = Both::open();
    let lease_1 = both.start(Draft { agent: true, ..draft(1) });
    let message = |id| Command::Message { task: 1, id: Some(id) };
    assert_eq!(both.ask(message(5)), Answer::Told(1));
    assert_eq!(both.ask(message(6)), Answer::Told(2));
    assert_eq!(both.ask(message(5)), Answer::Told(1), "the same message again");
    both.done([finish(lease_1, Outcome::Lost)]);
    assert_eq!(both.ask(message(7)), wrong_state(Scheduled));
    both.wait(2);
    both.done([lease(2), Command::Start(held(1, 2))]);
    let orders = vec![(1, Order::Message(Some(5))), (2, Order::Message(Some(6)))];
    assert_eq!(both.ask(heartbeat(held(1, 2), 0)), Answer::Orders(orders));
}

#[test]
fn what_others_wait_to_start_from_is_not_forgotten() {
    let mut both = Both::open();
    let lease = both.start(draft(1));
    both.done([Command::Submit(vec![Draft { base: Base::ResultOf(1), ..draft(2) }])]);
    both.done([finish(lease, Outcome::Succeeded), Command::Forget { older: 0 }]);
    assert_eq!(both.state(1), Succeeded);
    both.done([Command::Pin(2), Command::Forget { older: 0 }]);
    assert_eq!(both.system.view().tasks.into_keys().collect::<Vec<_>>(), [2]);
}

#[test]
fn what_is_asked_twice_is_done_once() {
    let mut both = Both::open();
    let (agent, other) = (Draft { agent: true, ..draft(1) }, Draft { priority: Priority::Low, ..draft(1) });
    assert_eq!(both.ask(Command::Submit(vec![agent.clone()])), Answer::Taken(vec![true]));
    assert_eq!(both.ask(Command::Submit(vec![agent])), Answer::Taken(vec![false]));
    assert_eq!(both.ask(Command::Submit(vec![other])), Answer::Refused(TaskIdTaken, Some(Ready)));
    let leased = both.ask(lease(1));
    assert_eq!(both.ask(Command::Crash), Answer::Done);
    assert_eq!(both.ask(lease(1)), leased);
    both.done([Command::Start(held(1, 1)), Command::Start(held(1, 1))]);
    assert_eq!(both.ask(lease(1)), leased);
    let report = finish(held(1, 1), Outcome::Lost);
    assert_eq!(both.ask(&report), Answer::Accepted(Scheduled));
    both.wait(2);
    assert_eq!(both.ask(report), Answer::Accepted(Scheduled), "as it was answered then");
    assert_eq!(both.task(1).0, Ready);
}

#[test]
fn many_tasks_are_made_or_none() {
    let mut both = Both::open();
    let key = |id| Draft { key: Some(1), ..draft(id) };
    both.done([Command::Submit(vec![key(1)])]);
    assert_eq!(both.ask(Command::Submit(vec![draft(2), key(3)])), Answer::Refused(UniqueKeyTaken, None));
    assert_eq!(both.system.view().tasks.len(), 1);
    both.done([Command::Cancel(1), Command::Submit(vec![draft(2), key(3)])]);
    assert_eq!(both.system.view().tasks.len(), 3);
}

#[test]
fn a_task_that_has_ended_is_repeated_as_a_new_one() {
    let mut both = Both::open();
    let repeat = Command::Repeat { of: 1, id: 2 };
    both.done([Command::Submit(vec![Draft { approval: true, key: Some(1), ..draft(1) }])]);
    assert_eq!(both.ask(&repeat), wrong_state(Held));
    both.done([Command::Cancel(1), repeat.clone(), repeat]);
    // What was never let go is not let go by trying it again.
    assert_eq!(both.task(2), (Held, 0, why("approval")));
    both.done([Command::Approve(2)]);
    assert_eq!(both.task(2), (Ready, 0, None));
    assert_eq!(both.system.view().tasks[&2].retry_of, Some(1));
    let same_key = Command::Repeat { of: 1, id: 3 };
    assert_eq!(both.ask(same_key), Answer::Refused(UniqueKeyTaken, None));
}

#[test]
fn queues_pause_drain_and_have_limits() {
    let mut both = Both::open();
    let change = |mode, max_running| Command::Change { queue: 0, mode, max_running };
    both.done([Command::Submit((1..=4).map(draft).collect()), change(None, Some(1)), lease(1)]);
    assert_eq!(both.ask(lease(2)), Answer::NoTask, "one is leased");
    both.done([change(Some(QueueMode::Paused), Some(0)), Command::Crash]);
    assert_eq!(both.ask(lease(2)), Answer::NoTask, "it is paused");
    both.done([Command::Start(held(1, 1)), change(Some(QueueMode::Draining), None)]);
    assert_eq!(both.ask(Command::Submit(vec![draft(5)])), Answer::Refused(QueueDraining, None));
    both.done([lease(2), lease(3)]);
    assert_eq!(both.ask(lease(4)), Answer::NoTask, "three run, and that is the limit over all queues");
    both.done([finish(held(1, 1), Outcome::Failed)]);
    assert_eq!(both.ask(lease(4)), Answer::Leased { task: 4, attempt: 1, token: 4 });
}

#[test]
fn urgent_tasks_come_first_and_old_ones_do_not_starve() {
    let mut both = Both::open();
    let of = |id, priority| Draft { priority, ..draft(id) };
    let (low, high) = (of(1, Priority::Low), of(2, Priority::High));
    both.done([Command::Submit(vec![low, draft(3), draft(4), high])]);
    both.wait(3 * 3_600);
    both.done([Command::Submit(vec![of(5, Priority::High), of(6, Priority::Critical)])]);
    let order = (0..6).map(|request| {
        let Answer::Leased { task, .. } = both.ask(lease(request)) else { panic!("no task for {request}") };
        both.done([Command::Start(held(task, request)), finish(held(task, request), Outcome::Succeeded)]);
        task
    });
    assert_eq!(order.collect::<Vec<_>>(), [6, 2, 3, 4, 1, 5]);
}

#[test]
fn the_key_of_an_attempt_that_is_over_is_asked_for_until_it_is_settled() {
    let mut both = Both::open();
    let agent = |id| Draft { agent: true, attempts: 1, ..draft(id) };
    both.start(agent(1));
    assert_eq!(both.system.view().keys, []);
    both.wait(45);
    let second = both.start(agent(2));
    let settled =
        Command::Finish { lease: second, outcome: Outcome::Failed, words: 1, ledger: Ledger::Settled };
    both.done([settled, Command::Settle(Ledger::Held), Command::Crash, Command::Forget { older: 0 }]);
    assert_eq!(both.system.view().keys, [(1, 1)], "something is still held for the first");
    assert_eq!(both.system.view().tasks.len(), 1, "and so it is not forgotten");
    both.done([Command::Settle(Ledger::Settled), Command::Forget { older: 0 }]);
    assert_eq!(both.system.view().keys, []);
    assert!(both.system.view().tasks.is_empty());
}

#[test]
fn a_crash_loses_nothing_and_gives_leases_their_full_time_again() {
    let mut both = Both::open();
    let running = both.start(Draft { agent: true, ..draft(1) });
    both.done([Command::Submit(vec![draft(2), Draft { not_before: Some(500), ..draft(3) }])]);
    let leased = both.ask(lease(2));
    both.done([Command::Message { task: 1, id: None }, Command::Cancel(1), Command::Crash, Command::Crash]);
    both.wait(29);
    assert_eq!([1, 2, 3].map(|id| both.state(id)), [Running, Leased, Scheduled]);
    assert_eq!(both.ask(lease(2)), leased);
    let orders = vec![(1, Order::Message(None)), (2, Order::Cancel)];
    assert_eq!(both.ask(heartbeat(running, 0)), Answer::Orders(orders));
}
