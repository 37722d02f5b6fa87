//! Reading a task's events in their order, from any place, as they come.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use protocol::{Event, TaskId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Open, Outputs, Told,
    append::broken,
    kept::{Paths, Place, View},
    line,
    tell::Teller,
};
use crate::queue::{Queue, StoreError, locked};

/// Events that one reading brings at most, and bytes of output that it goes through.
const EVENTS: usize = 256;
const BYTES: u64 = 512 * 1024;

/// A reader of one task's events. Between two readings it holds no lock and no file.
pub struct Follower {
    open: Open,
    queue: Arc<Queue>,
    changed: watch::Receiver<()>,
    teller: Teller,
    /// Where a part was not there any more when it was looked for.
    missed: Option<Place>,
    /// Whether it waits for what is yet to come.
    waits: bool,
}

/// What comes next of the output.
enum Next {
    /// So much of a part, from its own byte `from` to byte `to`; lines before the part.
    Part { path: PathBuf, from: u64, to: u64, lines: u64 },
    /// What is there begins again at this place.
    Hole(Place),
}

impl Outputs {
    /// A reader of the events after the place `after`: of those to come too where it `waits`.
    ///
    /// # Errors
    /// `unknown_task`, and the store's.
    pub fn follow(
        self: &Arc<Self>,
        queue: &Arc<Queue>,
        task: &TaskId,
        after: u64,
        waits: bool,
    ) -> Result<Follower, StoreError> {
        let open = self.open(queue, task)?;
        let changed = open.stream.changed.subscribe();
        let teller = Teller::new(task.clone(), after);
        Ok(Follower { open, queue: queue.clone(), changed, teller, missed: None, waits })
    }
}

impl Follower {
    /// The next events, when there are some. Nothing after the terminal one, when the program stops, or when the
    /// disk fails.
    pub async fn next(mut self, stop: &CancellationToken) -> Option<(Vec<Event>, Self)> {
        while !self.teller.ended && !stop.is_cancelled() {
            self.changed.mark_unchanged();
            let (reader, read) = tokio::task::spawn_blocking(move || {
                let read = self.read();
                (self, read)
            })
            .await
            .ok()?;
            self = reader;
            let (events, more) =
                read.inspect_err(|error| tracing::warn!(%error, "a stream broke off")).ok()?;
            if !events.is_empty() {
                return Some((events, self));
            }
            if !more && !self.waits {
                return None;
            }
            if !more && !self.teller.ended {
                tokio::select! {
                    _ = self.changed.changed() => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        None
    }

    /// A few of the events that are there, and whether there are more.
    fn read(&mut self) -> Result<(Vec<Event>, bool), StoreError> {
        let Some((told, view)) = self.look()? else { return Ok((Vec::new(), false)) };
        let task = &self.open.task;
        self.teller.hear(self.queue.lifecycle(task, told.n, self.teller.events, told.events)?);
        let limit = view.end.bytes.min(self.teller.at.bytes + BYTES);
        while self.teller.at.bytes < limit && self.teller.found.len() < EVENTS {
            match self.next_part(&view) {
                Next::Hole(to) => self.teller.tell_hole(&view.runs, to),
                Next::Part { path, from, to, lines } => {
                    if from == 0 {
                        self.teller.tell_damage(lines);
                    }
                    if !self.read_part(&path, from, to)? {
                        return Ok((self.teller.take(), true));
                    }
                }
            }
        }
        let more = self.teller.at.bytes < view.end.bytes;
        if !more {
            self.teller.tell_damage(view.end.lines);
            self.teller.tell_lifecycle(u64::MAX);
        }
        Ok((self.teller.take(), more))
    }

    /// Both of one moment: no line that comes later stands before one of these lifecycle events.
    fn look(&self) -> Result<Option<(Told, View)>, StoreError> {
        let mut file = locked(&self.open.stream.file);
        let told = *locked(&self.open.stream.told);
        let kept = self.open.outputs.kept(&mut file, &self.open.task).map_err(|error| broken(&error))?;
        Ok(told.map(|told| (told, kept.view.clone())))
    }

    fn next_part(&self, view: &View) -> Next {
        let paths = Paths::of(&self.open.outputs.folder, &self.open.task);
        let at = self.teller.at.bytes;
        if at < view.head {
            return Next::Part { path: paths.head, from: at, to: view.head, lines: 0 };
        }
        let later = view.segments.iter().position(|start| start.bytes > at);
        let next = later.and_then(|later| view.segments.get(later));
        let index = later.unwrap_or(view.segments.len()).checked_sub(1);
        match (index.and_then(|index| view.segments.get(index)), next) {
            (Some(start), next) => Next::Part {
                path: paths.segment(*start),
                from: at - start.bytes,
                to: next.map_or(view.end.bytes, |next| next.bytes) - start.bytes,
                lines: start.lines,
            },
            (None, next) => Next::Hole(next.copied().unwrap_or(view.end)),
        }
    }

    /// Reads lines of a part, to its end or until there are enough. False where it is not there any more: what is
    /// there must be looked at again.
    fn read_part(&mut self, path: &Path, from: u64, to: u64) -> Result<bool, StoreError> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && self.missed != Some(self.teller.at) => {
                self.missed = Some(self.teller.at);
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.teller.pass_damaged(to - from);
                return Ok(true);
            }
            Err(error) => return Err(broken(&error)),
        };
        file.seek(SeekFrom::Start(from)).map_err(|error| broken(&error))?;
        let mut lines = BufReader::new(file.take(to - from));
        let (mut text, mut at) = (Vec::new(), from);
        while at < to && self.teller.found.len() < EVENTS && at - from < BYTES {
            text.clear();
            let size = lines.read_until(b'\n', &mut text).map_err(|error| broken(&error))?;
            if text.last() != Some(&b'\n') {
                // The part is shorter than it was.
                self.teller.pass_damaged(to - at);
                break;
            }
            at += line::bytes(size);
            match line::read_event(&text) {
                Some(line) => self.teller.tell_line(line, line::bytes(size)),
                None => self.teller.pass_damaged(line::bytes(size)),
            }
        }
        Ok(true)
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let task: &TaskId = &self.open.task;
        f.debug_struct("Follower").field("task", task).field("teller", &self.teller).finish_non_exhaustive()
    }
}
