//! Reading a task's events in their order, from any place, as they come.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    sync::Arc,
};

use protocol::{Event, EventBody, NewEvent, TaskId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Open, Outputs, line};
use crate::queue::{Queue, StoreError, locked};

/// Events that one reading brings at most, and bytes of output that it goes through.
const EVENTS: usize = 256;
const BYTES: u64 = 512 * 1024;

/// A reader of one task's events. Between two readings it holds no lock and no file.
pub struct Follower {
    open: Open,
    queue: Arc<Queue>,
    changed: watch::Receiver<()>,
    /// Events up to this place are not wanted.
    after: u64,
    /// Lifecycle events that were gone through.
    events: u64,
    /// Lines that were gone through, and their bytes.
    lines: u64,
    offset: u64,
    ended: bool,
    /// Whether it waits for what is yet to come.
    waits: bool,
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
        let queue = queue.clone();
        Ok(Follower { open, queue, changed, after, events: 0, lines: 0, offset: 0, ended: false, waits })
    }
}

impl Follower {
    /// The next events, when there are some. Nothing after the terminal one, when the program stops, or when the
    /// disk fails.
    pub async fn next(mut self, stop: &CancellationToken) -> Option<(Vec<Event>, Self)> {
        while !self.ended && !stop.is_cancelled() {
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
            if !more && !self.ended {
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
        let broken = |error: std::io::Error| StoreError::Storage(format!("output file: {error}"));
        let path = self.open.outputs.path(&self.open.task);
        // Both counts of one moment: no line that comes later stands before one of these lifecycle events.
        let (told, len) = {
            let file = locked(&self.open.stream.file);
            let told = *locked(&self.open.stream.told);
            let on_disk = || path.metadata().map_or(0, |metadata| metadata.len());
            (told, file.as_ref().map_or_else(on_disk, |file| file.len))
        };
        let Some(told) = told else { return Ok((Vec::new(), false)) };
        let lifecycle = self.queue.lifecycle(&self.open.task, told.n, self.events, told.events)?;
        let mut lifecycle = lifecycle.into_iter().peekable();
        let mut found = Vec::new();
        let limit = len.min(self.offset + BYTES);
        let mut whole = len;
        if self.offset < limit {
            let mut file = File::open(&path).map_err(broken)?;
            file.seek(SeekFrom::Start(self.offset)).map_err(broken)?;
            let mut lines = BufReader::new(file.take(len - self.offset));
            let mut text = Vec::new();
            while self.offset < limit && found.len() < EVENTS {
                text.clear();
                let size = lines.read_until(b'\n', &mut text).map_err(broken)?;
                if text.last() != Some(&b'\n') {
                    // Cut off by a crash; the next writer takes it away.
                    whole = self.offset;
                    break;
                }
                let line = self.parse(&text);
                while lifecycle.peek().is_some_and(|event| event.seq <= line.l) {
                    self.tell_lifecycle(lifecycle.next(), &mut found);
                }
                self.offset += line::bytes(size);
                self.lines += 1;
                let event = Event {
                    seq: line.l + self.lines,
                    task: self.open.task.clone(),
                    attempt: line.a,
                    event: line.e,
                };
                if event.seq > self.after {
                    found.push(event);
                }
            }
        }
        if self.offset < whole {
            return Ok((found, true));
        }
        while lifecycle.peek().is_some() {
            self.tell_lifecycle(lifecycle.next(), &mut found);
        }
        Ok((found, false))
    }

    fn tell_lifecycle(&mut self, event: Option<Event>, found: &mut Vec<Event>) {
        let Some(event) = event else { return };
        self.events = event.seq;
        if let EventBody::State { state, .. } = event.event.body {
            self.ended = state.is_terminal();
        }
        let seq = event.seq + self.lines;
        if seq > self.after {
            found.push(Event { seq, ..event });
        }
    }

    fn parse(&self, text: &[u8]) -> line::Line {
        serde_json::from_slice(text).unwrap_or_else(|error| line::Line {
            l: self.events,
            a: 0,
            i: 0,
            e: NewEvent {
                at: jiff::Timestamp::UNIX_EPOCH,
                body: EventBody::Error {
                    message: format!("this line of the output file is damaged: {error}"),
                },
                raw: None,
            },
        })
    }
}
