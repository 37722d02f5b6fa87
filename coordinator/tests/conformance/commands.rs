//! What can be asked of a queue, as plain data, and what is answered. Everything has a small number instead of a name:
//! tasks, queues, workers, lease requests. Times are whole seconds since the test began.

use std::collections::BTreeMap;

use protocol::{Code, TaskState, queue::QueueMode, report::Outcome, task::Priority};

/// How many queues there are; worker `w` is of queue `w % QUEUES`.
pub(crate) const QUEUES: u8 = 2;
/// How many workers there are.
pub(crate) const WORKERS: u8 = 8;
/// Tasks that may be leased or running at once, all queues together.
pub(crate) const MAX_RUNNING: u32 = 3;
/// Run time of one attempt of every task.
pub(crate) const TIMEOUT: u64 = 60;

/// Something that is asked. Asked again, it is the same message once more: it names the same ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Submit(Vec<Draft>),
    Repeat {
        of: u8,
        id: u8,
    },
    Pin(u8),
    RefuseSource(u8),
    Approve(u8),
    Cancel(u8),
    Message {
        task: u8,
        id: Option<u8>,
    },
    Lease {
        worker: u8,
        request: u8,
    },
    Start(Named),
    /// `after`: the last order that was carried out.
    Heartbeat {
        lease: Named,
        after: u64,
    },
    GiveBack {
        lease: Named,
        pause: u64,
    },
    /// `words`: what the report says, so that another report is another one.
    Finish {
        lease: Named,
        outcome: Outcome,
        words: u8,
        ledger: Ledger,
    },
    EndWorker(u8),
    Change {
        queue: u8,
        mode: Option<QueueMode>,
        max_running: Option<u32>,
    },
    /// What the gateway says of every key that it is asked for.
    Settle(Ledger),
    /// Forgets what ended so many seconds ago.
    Forget {
        older: u64,
    },
    Advance(u64),
    Reap,
    Crash,
    /// At once, so that one transaction may take all of them. They are done in this order.
    Together(Vec<Self>),
}

impl Command {
    /// Each command of those that are asked together, or the one.
    pub(crate) fn each(&self) -> &[Self] {
        match self {
            Self::Together(all) => all,
            one => std::slice::from_ref(one),
        }
    }

    /// Whether it is one step, and no more, so that it can be asked together with others.
    pub(crate) const fn is_one_step(&self) -> bool {
        let of_owner = matches!(
            self,
            Self::Submit(_) | Self::Repeat { .. } | Self::Approve(_) | Self::Cancel(_) | Self::Message { .. }
        );
        let of_source = matches!(self, Self::Pin(_) | Self::RefuseSource(_));
        of_owner
            || of_source
            || matches!(self, Self::GiveBack { .. } | Self::Finish { .. } | Self::EndWorker(_))
    }
}

/// A task to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) id: u8,
    pub(crate) queue: u8,
    pub(crate) agent: bool,
    pub(crate) base: Base,
    pub(crate) priority: Priority,
    pub(crate) attempts: u32,
    pub(crate) not_before: Option<u64>,
    pub(crate) key: Option<u8>,
    pub(crate) approval: bool,
}

/// What a task starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Base {
    /// A commit that the mirror is known to have.
    Known,
    /// A commit that it may come to have: the one that is pinned.
    Commit,
    Branch,
    ResultOf(u8),
}

/// A lease as a worker names it: the task of its call, and the token that the request brought last. Where that token
/// is another task's, or where there is none, it is a forged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) task: u8,
    pub(crate) request: u8,
}

/// What the gateway says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ledger {
    Silent,
    /// Something is under way, and will still be charged.
    Held,
    Settled,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    /// Of each task, whether it is new.
    Taken(Vec<bool>),
    /// A message's place among the task's orders.
    Told(u64),
    /// `token`: its number among all different tokens that there were.
    Leased {
        task: u8,
        attempt: u32,
        token: usize,
    },
    NoTask,
    Orders(Vec<(u64, Order)>),
    Accepted(TaskState),
    Queue(QueueMode, u32),
    All(Vec<Answer>),
    Refused(Code, Option<TaskState>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Cancel,
    Message(Option<u8>),
}

/// All that can be seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) tasks: BTreeMap<u8, Seen>,
    /// Mode, limit, and the unfinished tasks by state.
    pub(crate) queues: Vec<(QueueMode, u32, [u64; 5])>,
    /// Attempts that are over, and whose keys the gateway is asked for.
    pub(crate) keys: Vec<(u8, u32)>,
}

/// A task as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) queue: u8,
    pub(crate) state: TaskState,
    pub(crate) attempt: u32,
    /// Its word.
    pub(crate) reason: Option<String>,
    pub(crate) orders: u64,
    pub(crate) worker: Option<u8>,
    pub(crate) key: Option<u8>,
    pub(crate) retry_of: Option<u8>,
    pub(crate) pinned: bool,
    /// What the report of its latest attempt says.
    pub(crate) words: Option<u8>,
    /// Its events: the state, and the attempt.
    pub(crate) trail: Vec<(TaskState, u32)>,
}

/// An `exec` task on a known commit.
pub(crate) const fn draft(id: u8) -> Draft {
    Draft {
        id,
        queue: 0,
        agent: false,
        base: Base::Known,
        priority: Priority::Normal,
        attempts: 3,
        not_before: None,
        key: None,
        approval: false,
    }
}
