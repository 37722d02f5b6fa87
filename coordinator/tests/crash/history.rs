//! What clients and workers were told, in the order in which they were told it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use protocol::{Event, QueueName, TaskId, TaskState, lease::Order, report::Report, submit::NewTask};
use uuid::Uuid;

/// When something was asked for the first time, and when it was answered, by one counter for all. What an answer
/// tells of happened in between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct When {
    pub(crate) asked: u64,
    pub(crate) answered: u64,
}

/// Which lease: the serial says which of its task's leases it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LeaseName {
    pub(crate) task: TaskId,
    pub(crate) serial: u64,
    pub(crate) attempt: u32,
}

/// Something that the coordinator said.
#[derive(Debug, Clone)]
pub(crate) enum Fact {
    /// The task is taken in.
    Accepted(NewTask),
    /// It is not, and never was.
    Refused(TaskId),
    /// `id` repeats `of`.
    Retried { of: TaskId, id: TaskId },
    /// Its owner let it go.
    Approved(TaskId),
    /// The task stands so.
    Seen { task: TaskId, state: TaskState },
    /// The message is this order of the task.
    Told { task: TaskId, message: Uuid, seq: u64, text: String },
    /// The worker has the lease, at this time of the machine's clock.
    Leased { lease: LeaseName, at: Timestamp },
    /// A call with the lease was taken.
    Taken { lease: LeaseName, verb: &'static str },
    /// So many of the attempt's events are stored.
    Stored { lease: LeaseName, lines: u64 },
    /// The orders after `after`.
    Beat { lease: LeaseName, after: u64, orders: Vec<Order> },
    /// The report is taken.
    Result { lease: LeaseName, report: Report, state: TaskState },
    /// A reader, who went on after its last event whenever its stream broke off, was told these.
    Followed { task: TaskId, events: Vec<Event> },
    /// How many tasks of each queue are leased or running, all of one moment.
    Live(BTreeMap<QueueName, u64>),
    /// The queue's limit is now this.
    Limit { queue: QueueName, max_running: u32 },
    /// An answer that nothing in the protocol explains.
    Odd(String),
}

/// All that was told, ordered by the answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) facts: Vec<(When, Fact)>,
    /// The limit of all queues together.
    pub(crate) max_running: u32,
}

/// Writes a history down while it happens.
#[derive(Default)]
pub(crate) struct Recorder {
    now: AtomicU64,
    facts: Mutex<Vec<(When, Fact)>>,
}

impl Recorder {
    /// The moment before a question.
    pub(crate) fn ask(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst)
    }

    /// What the question that was asked then has brought.
    pub(crate) fn note(&self, asked: u64, fact: Fact) {
        let mut facts = self.facts.lock().unwrap();
        let answered = self.now.fetch_add(1, Ordering::SeqCst);
        facts.push((When { asked, answered }, fact));
    }

    pub(crate) fn history(&self, max_running: u32) -> History {
        History { facts: self.facts.lock().unwrap().clone(), max_running }
    }
}

/// The text of an attempt's event: no two are alike.
pub(crate) fn line(lease: &LeaseName, place: u64) -> String {
    format!("{} {} {place}", lease.task, lease.attempt)
}
