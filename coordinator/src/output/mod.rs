//! A task's events in one order, though they are kept in two places: lifecycle events in the database, agent output
//! in files of the task's own that are never flushed with a lease.
//!
//! Each line of output carries `o`, its number among the task's lines, and `l`, the count of the task's lifecycle
//! events before it. So it has the place `l + o`, and lifecycle event `n` has `n` plus the count of lines whose `l` is
//! below `n`: one dense order, nothing is written twice, and what is removed from the middle moves nothing. What makes
//! it hold: a line's `l` is taken, and the line written, under the file's lock, and a reader looks at both counts under
//! the same lock. `docs/decisions/0002-event-order.md`.

mod append;
mod flush;
mod follow;
mod hole;
mod kept;
mod line;
mod scan;
mod tell;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use protocol::{TaskId, limits};
use tokio::sync::watch;

use crate::{
    queue::{Committed, Queue, Row, Stand, StoreError, locked, unknown_task},
    tokens::Claim,
};
pub use follow::Follower;
use kept::{Kept, Paths};

/// How much of a task's output is kept, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of its head.
    pub head: u64,
    /// Of one segment of its end; what one event brings is never parted.
    pub segment: u64,
    /// How many segments there are. One of them is being filled.
    pub segments: usize,
}

impl Bounds {
    /// Together [`limits::TASK_OUTPUT_BYTES`].
    pub const KEPT: Self = Self {
        head: limits::TASK_OUTPUT_BYTES / 4 * 3,
        segment: limits::TASK_OUTPUT_BYTES / 32,
        segments: 8,
    };
}

/// The streams of tasks whose output is being written or read. The others are on disk alone.
pub struct Outputs {
    folder: PathBuf,
    bounds: Bounds,
    open: Mutex<HashMap<TaskId, Arc<Stream>>>,
    /// Those with something that is not flushed.
    grown: Mutex<HashMap<TaskId, Arc<Stream>>>,
}

/// One task's stream. Lock order: `file`, then `told`; the writer's thread takes `told` alone, and never waits for
/// a file.
struct Stream {
    file: Mutex<Option<Kept>>,
    told: Mutex<Option<Told>>,
    /// Held while its files are flushed; before `file`.
    flushing: Mutex<()>,
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
        Self::bounded(folder, Bounds::KEPT)
    }

    /// The same with other bounds.
    #[must_use]
    pub fn bounded(folder: PathBuf, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { folder, bounds, open: Mutex::default(), grown: Mutex::default() })
    }

    /// Whether something of a task's events may be stored and not flushed.
    #[must_use]
    pub fn is_open(&self, task: &TaskId) -> bool {
        locked(&self.open).contains_key(task)
    }

    /// Follows what was committed. Runs on the writer's thread.
    pub(crate) fn committed(&self, changes: &[Committed]) {
        let mut open = locked(&self.open);
        if open.is_empty() {
            return;
        }
        for change in changes {
            let Some(stream) = open.get(&change.row.id) else { continue };
            let told = Told::of(&change.row, change.row.events);
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
                Arc::new(Stream {
                    file: Mutex::default(),
                    told: Mutex::default(),
                    flushing: Mutex::default(),
                    changed,
                })
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

    /// What is kept of the task's output, found on disk where it is not known yet.
    fn kept<'a>(&self, file: &'a mut Option<Kept>, task: &TaskId) -> io::Result<&'a mut Kept> {
        Ok(match file {
            Some(kept) => kept,
            none => none.insert(Kept::open(Paths::of(&self.folder, task), self.bounds)?),
        })
    }
}

/// Removes all output of an ended task from the folder of outputs.
///
/// # Errors
/// What the disk says; what is not there needs no removing.
pub fn remove(folder: &Path, task: &TaskId) -> io::Result<()> {
    let paths = Paths::of(folder, task);
    for removed in [std::fs::remove_dir_all(paths.end), std::fs::remove_file(paths.head)] {
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    Ok(())
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
