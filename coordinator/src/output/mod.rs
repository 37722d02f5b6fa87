//! A task's events in one order, though they are kept in two places: lifecycle events in the database, agent output
//! in one file a task that is never flushed with a lease.
//!
//! Each line of the file carries `l`, the count of the task's lifecycle events before it. So line number `o` has
//! the place `l + o`, and lifecycle event `n` has `n` plus the count of lines whose `l` is below `n`: one dense
//! order, and nothing is written twice. What makes it hold: a line's `l` is taken, and the line written, under the
//! file's lock, and a reader looks at both counts under the same lock. `docs/decisions/0002-event-order.md`.

mod append;
mod follow;
mod line;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use protocol::TaskId;
use tokio::sync::watch;

use crate::{
    queue::{Committed, Queue, Row, Stand, StoreError, locked, unknown_task},
    tokens::Claim,
};
use append::OutputFile;
pub use follow::Follower;

/// The streams of tasks whose output is being written or read. The others are on disk alone.
pub struct Outputs {
    folder: PathBuf,
    open: Mutex<HashMap<TaskId, Arc<Stream>>>,
}

/// One task's stream. Lock order: `file`, then `told`; the writer's thread takes `told` alone, and never waits for
/// a file.
struct Stream {
    file: Mutex<Option<OutputFile>>,
    told: Mutex<Option<Told>>,
    changed: watch::Sender<()>,
}

/// What is committed of a task, as far as its stream needs it.
#[derive(Debug, Clone, Copy)]
struct Told {
    n: i64,
    /// Lifecycle events so far.
    events: u64,
    claim: Claim,
    running: bool,
}

impl Told {
    const fn of(row: &Row, events: u64) -> Self {
        let running = matches!(row.stand, Stand::Running { .. });
        Self { n: row.n, events, claim: row.claim(), running }
    }
}

/// A stream that somebody uses.
struct Open {
    outputs: Arc<Outputs>,
    task: TaskId,
    stream: Arc<Stream>,
}

impl Outputs {
    /// With output files in this folder.
    #[must_use]
    pub fn new(folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { folder, open: Mutex::default() })
    }

    /// Follows what was committed. Runs on the writer's thread.
    pub(crate) fn committed(&self, changes: &[Committed]) {
        let mut open = locked(&self.open);
        if open.is_empty() {
            return;
        }
        for change in changes {
            let Some(stream) = open.get(&change.row.id) else { continue };
            let told = Told::of(&change.row, change.events);
            *locked(&stream.told) = Some(told);
            stream.changed.send_replace(());
            if !told.running && Arc::strong_count(stream) == 1 {
                open.remove(&change.row.id);
            }
        }
    }

    fn open(self: &Arc<Self>, queue: &Queue, task: &TaskId) -> Result<Open, StoreError> {
        let stream = locked(&self.open)
            .entry(task.clone())
            .or_insert_with(|| {
                let changed = watch::Sender::new(());
                Arc::new(Stream { file: Mutex::default(), told: Mutex::default(), changed })
            })
            .clone();
        // From here on nothing that is committed is missed; what was committed before is read now.
        let open = Open { outputs: self.clone(), task: task.clone(), stream };
        if locked(&open.stream.told).is_none() {
            let (row, events) = queue.row_and_events(task)?.ok_or_else(|| unknown_task(task))?;
            let read = Told::of(&row, events);
            let mut told = locked(&open.stream.told);
            if told.is_none_or(|told| told.events < read.events) {
                *told = Some(read);
            }
        }
        Ok(open)
    }

    fn path(&self, task: &TaskId) -> PathBuf {
        self.folder.join(task.as_str())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = locked(&self.outputs.open);
        let running = locked(&self.stream.told).is_some_and(|told| told.running);
        // The map's and this one: nobody else uses it. A running task's file stays open for its next lines.
        if !running && Arc::strong_count(&self.stream) <= 2 {
            open.remove(&self.task);
        }
    }
}
