//! Sequences of commands at random, asked of the model and of the store, and compared after each step. Messages come
//! late, twice, and with the wrong lease; the machine loses its power between any two steps.
//!
//! A difference is shrunk to the shortest sequence that shows it. More of them, before a release:
//! `PROPTEST_CASES=5000 cargo nextest run -p coordinator --test conformance sequences`

use proptest::{prelude::*, sample::select};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use protocol::{queue::QueueMode, report::Outcome, task::Priority};

use crate::{
    commands::{Base, Command, Draft, Ledger, MAX_RUNNING, Named, QUEUES, View, WORKERS},
    model::Model,
    system::System,
};

/// As many as take a few seconds.
const CASES: u32 = 40;

const TASKS: std::ops::Range<u8> = 0..6;
const REQUESTS: std::ops::Range<u8> = 0..8;

/// The model, and what it was asked.
#[derive(Debug, Clone)]
struct Reference {
    model: Model,
    past: Vec<Command>,
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Command;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self { model: Model::new(), past: Vec::new() }).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Command> {
        let fresh = prop_oneof![
            6 => owners(state.model.now),
            8 => workers(&state.model),
            5 => machines(),
        ];
        if state.past.is_empty() {
            return fresh.boxed();
        }
        // The same message once more: a copy, or one that was late.
        prop_oneof![6 => fresh, 1 => select(state.past.clone())].boxed()
    }

    fn preconditions(state: &Self, command: &Command) -> bool {
        // A forgotten task's id is not used again: its tokens would come again too.
        let forgotten = |id: &u8| state.model.past.contains(id);
        let reused = match command {
            Command::Submit(drafts) => drafts.iter().any(|draft| forgotten(&draft.id)),
            Command::Repeat { id, .. } => forgotten(id),
            _ => false,
        };
        !reused && !state.model.is_unsure(command)
    }

    fn apply(mut state: Self, command: &Command) -> Self {
        state.model.ask(command);
        state.past.push(command.clone());
        state
    }
}

fn drafts(now: u64) -> impl Strategy<Value = Draft> {
    let base = prop_oneof![
        8 => Just(Base::Known),
        1 => Just(Base::Commit),
        1 => Just(Base::Branch),
        1 => TASKS.prop_map(Base::ResultOf),
    ];
    let priority = select(vec![Priority::Critical, Priority::High, Priority::Normal, Priority::Low]);
    let not_before = proptest::option::weighted(0.15, select(vec![now + 5, now + 40, now + 4_000]));
    let key = proptest::option::weighted(0.3, 0..2_u8);
    // One queue in twelve is not there.
    let queue = prop_oneof![8 => Just(0), 3 => Just(1), 1 => Just(QUEUES)];
    (TASKS, queue, any::<bool>(), base, priority, 1..4_u32, not_before, key, prop::bool::weighted(0.15))
        .prop_map(|(id, queue, agent, base, priority, attempts, not_before, key, approval)| Draft {
            id,
            queue,
            agent,
            base,
            priority,
            attempts,
            not_before,
            key,
            approval,
        })
}

fn owners(now: u64) -> impl Strategy<Value = Command> {
    let mode = proptest::option::of(select(vec![
        QueueMode::Open,
        QueueMode::Open,
        QueueMode::Paused,
        QueueMode::Draining,
    ]));
    prop_oneof![
        8 => proptest::collection::vec(drafts(now), 1..4).prop_map(Command::Submit),
        2 => (TASKS, TASKS).prop_map(|(of, id)| Command::Repeat { of, id }),
        3 => TASKS.prop_map(Command::Cancel),
        3 => (TASKS, proptest::option::of(0..3_u8)).prop_map(|(task, id)| Command::Message { task, id }),
        1 => TASKS.prop_map(Command::Approve),
        1 => (0..=QUEUES, mode, proptest::option::of(0..3_u32))
            .prop_map(|(queue, mode, max_running)| Command::Change { queue, mode, max_running }),
    ]
}

fn workers(model: &Model) -> impl Strategy<Value = Command> + use<> {
    let any_lease = (TASKS, REQUESTS).prop_map(|(task, request)| Named { task, request });
    let standing = model.leases();
    let lease = if standing.is_empty() {
        any_lease.boxed()
    } else {
        prop_oneof![1 => any_lease, 4 => select(standing)].boxed()
    };
    let outcome = select(vec![
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::TimedOut,
        Outcome::Cancelled,
        Outcome::Lost,
        Outcome::Lost,
    ]);
    let ledger = || select(vec![Ledger::Silent, Ledger::Held, Ledger::Settled]);
    prop_oneof![
        6 => (0..WORKERS, REQUESTS).prop_map(|(worker, request)| Command::Lease { worker, request }),
        6 => lease.clone().prop_map(Command::Start),
        3 => (lease.clone(), 0..3_u64).prop_map(|(lease, after)| Command::Heartbeat { lease, after }),
        1 => (lease.clone(), select(vec![0, 0, 20])).prop_map(|(lease, pause)| Command::GiveBack { lease, pause }),
        3 => (lease, outcome, 0..3_u8, ledger())
            .prop_map(|(lease, outcome, words, ledger)| Command::Finish { lease, outcome, words, ledger }),
        1 => (0..WORKERS).prop_map(Command::EndWorker),
    ]
}

fn machines() -> impl Strategy<Value = Command> {
    let seconds = vec![1, 2, 5, 10, 20, 31, 46, 60, 650, 3_700, 20_000];
    prop_oneof![
        4 => select(seconds).prop_map(Command::Advance),
        4 => Just(Command::Reap),
        2 => Just(Command::Crash),
        2 => TASKS.prop_map(Command::Pin),
        1 => TASKS.prop_map(Command::RefuseSource),
        1 => select(vec![Ledger::Held, Ledger::Settled]).prop_map(Command::Settle),
        1 => select(vec![0, 30]).prop_map(|older| Command::Forget { older }),
    ]
}

/// The store, and what it showed last.
struct Store {
    system: System,
    view: View,
}

struct Conformance;

impl StateMachineTest for Conformance {
    type SystemUnderTest = Store;
    type Reference = Reference;

    fn init_test(_: &Reference) -> Store {
        let system = System::open();
        let view = system.view();
        Store { system, view }
    }

    fn apply(mut store: Store, reference: &Reference, command: Command) -> Store {
        let answer = store.system.execute(&command, reference.model.now);
        assert_eq!(reference.model.answer, answer, "the answer to {command:?}: promised on the left");
        let view = store.system.view();
        assert_eq!(reference.model.view(), view, "after {command:?}: promised on the left");
        lasts(&store.view, &view);
        fits(&view);
        keeps_limits(&store.view, &view);
        Store { view, ..store }
    }
}

/// What has ended does not change, and no event is taken back.
fn lasts(before: &View, now: &View) {
    for (id, old) in &before.tasks {
        let Some(new) = now.tasks.get(id) else {
            assert!(old.state.is_terminal(), "task {id} is gone, and was {old:?}");
            continue;
        };
        assert!(!old.state.is_terminal() || old == new, "task {id} had ended: {old:?}, and is {new:?}");
        assert!(new.trail.starts_with(&old.trail), "task {id} has another past: {old:?}, {new:?}");
    }
}

/// What holds of every view, whatever the model says.
fn fits(view: &View) {
    for (id, task) in &view.tasks {
        assert_eq!(task.trail.last(), Some(&(task.state, task.attempt)), "task {id}: {task:?}");
        let changes = task.trail.windows(2).all(|two| two[0].0 != two[1].0);
        assert!(changes, "task {id} has an event that tells of no change: {task:?}");
        let holders = view.tasks.values().filter(|other| {
            task.key.is_some()
                && !other.state.is_terminal()
                && (other.queue, other.key) == (task.queue, task.key)
        });
        assert!(holders.count() <= 1, "unique key of task {id}: {view:?}");
    }
}

/// Nothing is leased over a limit. One that was lowered ends nothing.
fn keeps_limits(before: &View, now: &View) {
    let live = |view: &View, queue: u8| {
        let [_, _, _, leased, running] = view.queues[usize::from(queue)].2;
        leased + running
    };
    for queue in 0..QUEUES {
        let (_, limit, _) = now.queues[usize::from(queue)];
        let (before, now) = (live(before, queue), live(now, queue));
        assert!(
            limit == 0 || now <= before.max(limit.into()),
            "{now} of queue {queue} run, the limit is {limit}"
        );
    }
    let all: u64 = (0..QUEUES).map(|queue| live(now, queue)).sum();
    assert!(all <= MAX_RUNNING.into(), "{all} run");
}

fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    config
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn the_store_does_what_is_promised(sequential 1..60 => Conformance);
}
