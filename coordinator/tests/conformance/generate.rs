//! Commands at random. Most fit what there is, so that lives get long; some do not.

use proptest::{option, prelude::*, sample::select};
use protocol::{queue::QueueMode, report::Outcome, task::Priority};

use crate::{
    commands::{Base, Command, Draft, Ledger, Named, QUEUES, WORKERS},
    model::Model,
};

const TASKS: std::ops::Range<u8> = 0..12;
const REQUESTS: std::ops::Range<u8> = 0..16;

/// Any command, and rather one that this model has something to say to.
pub(crate) fn commands(model: &Model) -> BoxedStrategy<Command> {
    if model.ids().is_empty() {
        return drafts(model, 1..4).prop_map(Command::Submit).boxed();
    }
    let one = prop_oneof![5 => owners(model), 12 => workers(model), 4 => machines(model)].boxed();
    let step =
        prop_oneof![2 => owners(model), 1 => workers(model)].prop_filter("one step", Command::is_one_step);
    let together = proptest::collection::vec(step, 2..5).prop_map(Command::Together);
    prop_oneof![12 => one, 1 => together].boxed()
}

fn drafts(model: &Model, count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Draft>> + use<> {
    let id = prop_oneof![5 => rather(model.new_ids(TASKS), TASKS), 1 => TASKS];
    let base = prop_oneof![
        12 => Just(Base::Known),
        1 => Just(Base::Commit),
        1 => Just(Base::Branch),
        1 => TASKS.prop_map(Base::ResultOf),
    ];
    let priority = select(vec![Priority::Critical, Priority::High, Priority::Normal, Priority::Low]);
    let later = select(vec![model.now + 5, model.now + 40, model.now + 4_000]);
    let key = option::weighted(0.25, 0..2_u8);
    // The last of these queues is not there.
    let queue = prop_oneof![18 => Just(0), 6 => Just(1), 1 => Just(QUEUES)];
    let asked = (option::weighted(0.1, later), key, prop::bool::weighted(0.1));
    let draft = (id, queue, prop::bool::weighted(0.7), base, priority, 1..4_u32, asked).prop_map(
        |(id, queue, agent, base, priority, attempts, (not_before, key, approval))| Draft {
            id,
            queue,
            agent,
            base,
            priority,
            attempts,
            not_before,
            key,
            approval,
        },
    );
    proptest::collection::vec(draft, count)
}

fn owners(model: &Model) -> impl Strategy<Value = Command> + use<> {
    let task = || prop_oneof![9 => rather(model.ids(), TASKS), 1 => TASKS];
    let running = rather(model.leases().into_iter().map(|lease| lease.task).collect(), TASKS);
    let mode =
        vec![QueueMode::Open, QueueMode::Open, QueueMode::Open, QueueMode::Paused, QueueMode::Draining];
    let mode = option::of(select(mode));
    prop_oneof![
        8 => drafts(model, 1..4).prop_map(Command::Submit),
        2 => (task(), rather(model.new_ids(TASKS), TASKS)).prop_map(|(of, id)| Command::Repeat { of, id }),
        2 => task().prop_map(Command::Cancel),
        1 => running.clone().prop_map(Command::Cancel),
        4 => (running, option::of(0..3_u8)).prop_map(|(task, id)| Command::Message { task, id }),
        1 => (task(), option::of(0..3_u8)).prop_map(|(task, id)| Command::Message { task, id }),
        2 => task().prop_map(Command::Approve),
        2 => (0..=QUEUES, mode, option::of(0..3_u32))
            .prop_map(|(queue, mode, max_running)| Command::Change { queue, mode, max_running }),
    ]
}

fn workers(model: &Model) -> impl Strategy<Value = Command> + use<> {
    let any_lease = (rather(model.ids(), TASKS), REQUESTS);
    let any_lease = any_lease.prop_map(|(task, request)| Named { task, request }).boxed();
    let standing = model.leases();
    // Without a lease there is little to be said.
    let rest = if standing.is_empty() { 1 } else { 6 };
    let lease = match standing.is_empty() {
        true => any_lease,
        false => prop_oneof![1 => any_lease, 6 => select(standing)].boxed(),
    };
    let outcome = select(vec![
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::TimedOut,
        Outcome::Cancelled,
        Outcome::Lost,
        Outcome::Lost,
        Outcome::Lost,
    ]);
    let ledger = select(vec![Ledger::Silent, Ledger::Silent, Ledger::Held, Ledger::Settled]);
    let named = prop_oneof![
        14 => lease.clone().prop_map(Command::Start),
        6 => (lease.clone(), 0..3_u64).prop_map(|(lease, after)| Command::Heartbeat { lease, after }),
        2 => (lease.clone(), select(vec![0, 0, 20]))
            .prop_map(|(lease, pause)| Command::GiveBack { lease, pause }),
        7 => (lease, outcome, 0..3_u8, ledger)
            .prop_map(|(lease, outcome, words, ledger)| Command::Finish { lease, outcome, words, ledger }),
    ];
    prop_oneof![
        4 => (0..WORKERS, REQUESTS).prop_map(|(worker, request)| Command::Lease { worker, request }),
        rest => named,
        1 => prop_oneof![1 => (0..WORKERS).prop_map(Command::EndWorker), 3 => Just(Command::Reap)],
    ]
}

fn machines(model: &Model) -> impl Strategy<Value = Command> + use<> {
    let seconds = vec![1, 2, 2, 5, 6, 10, 20, 31, 46, 650, 3_700, 20_000];
    let task = || rather(model.ids(), TASKS);
    prop_oneof![
        8 => select(seconds).prop_map(Command::Advance),
        5 => Just(Command::Reap),
        3 => Just(Command::Crash),
        3 => task().prop_map(Command::Pin),
        1 => task().prop_map(Command::RefuseSource),
        1 => select(vec![Ledger::Held, Ledger::Settled]).prop_map(Command::Settle),
        1 => select(vec![0, 30]).prop_map(|older| Command::Forget { older }),
    ]
}

/// One of these, where there are any.
fn rather(these: Vec<u8>, any: std::ops::Range<u8>) -> BoxedStrategy<u8> {
    if these.is_empty() { any.boxed() } else { select(these).boxed() }
}
