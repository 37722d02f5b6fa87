//! Reading what was written, in order, and letting go what is stored.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    sync::{Arc, Mutex, MutexGuard},
};

use protocol::{NewEvent, limits};
use tokio::sync::watch;

use super::{row::Row, spool::locked};

/// Bytes of events in one request, but for the last one of them: together under the limit of a body.
const BATCH_BYTES: usize = limits::BODY_BYTES / 4;

/// The end that is read from. There is one.
#[derive(Debug)]
pub struct SpoolReader {
    row: Arc<Mutex<Row>>,
    /// Of the oldest file.
    lines: BufReader<File>,
    /// Events of the oldest file that were read.
    read: u64,
    grown: watch::Receiver<()>,
}

impl SpoolReader {
    pub(super) fn new(row: Arc<Mutex<Row>>, grown: watch::Receiver<()>) -> io::Result<Self> {
        let lines = BufReader::new(locked(&row).open()?);
        Ok(Self { row, lines, read: 0, grown })
    }

    /// The place of the next event.
    #[must_use]
    pub fn place(&self) -> u64 {
        self.row().first() + self.read
    }

    /// Whether there are events that the next call answers at once.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let row = self.row();
        row.events() > self.read || row.has_newer()
    }

    /// Waits for the next events: at least one, at most as many as go into a request. `None` at the end. Who asks
    /// says that all before [`Self::place`] are stored: a file that has none but such is removed.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn next_events(&mut self) -> io::Result<Option<Vec<NewEvent>>> {
        loop {
            let ended = self.grown.has_changed().is_err();
            self.grown.mark_unchanged();
            let events = self.read_batch()?;
            if !events.is_empty() {
                return Ok(Some(events));
            }
            if ended {
                return Ok(None);
            }
            // An error is the end, which is seen above.
            let _ = self.grown.changed().await;
        }
    }

    fn read_batch(&mut self) -> io::Result<Vec<NewEvent>> {
        let written = self.written()?;
        let (mut events, mut bytes) = (Vec::new(), 0);
        while self.read < written && events.len() < limits::EVENTS_PER_REQUEST && bytes < BATCH_BYTES {
            let mut line = Vec::new();
            bytes += self.lines.read_until(b'\n', &mut line)?;
            events.push(serde_json::from_slice(&line)?);
            self.read += 1;
        }
        Ok(events)
    }

    /// How many events the oldest file has, once it is one with events that are not read, or the newest.
    fn written(&mut self) -> io::Result<u64> {
        let mut row = locked(&self.row);
        if self.read == row.events() && row.has_newer() {
            row.advance()?;
            (self.lines, self.read) = (BufReader::new(row.open()?), 0);
        }
        Ok(row.events())
    }

    /// Goes on from another place. Where that is before all that is there, the coordinator has lost what it had
    /// stored: then what is there comes next, in its place.
    ///
    /// # Errors
    /// What the file system says; a place that no event had yet.
    pub fn seek(&mut self, place: u64) -> io::Result<()> {
        let mut row = locked(&self.row);
        if place < row.first() {
            tracing::warn!("{} events that were stored are lost", row.first() - place);
            row.renumber(place)?;
        }
        let read = place - row.first();
        if read > row.events() {
            return Err(io::Error::other(format!("{place} events are stored, and fewer were sent")));
        }
        self.lines = BufReader::new(row.open()?);
        drop(row);
        let mut line = Vec::new();
        for _ in 0..read {
            line.clear();
            self.lines.read_until(b'\n', &mut line)?;
        }
        self.read = read;
        Ok(())
    }

    fn row(&self) -> MutexGuard<'_, Row> {
        locked(&self.row)
    }
}
