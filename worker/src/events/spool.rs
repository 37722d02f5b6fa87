//! The file between them: one event a line, in the order in which they are numbered.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use protocol::{EventBody, NewEvent, limits};
use tokio::sync::watch;

/// Bytes that are kept free for events that are not the agent's.
const RESERVE: u64 = 64 * 1024;
/// Bytes that an event costs beside its own: the coordinator counts its lines, which bear numbers too.
const NUMBERS: u64 = 80;
/// Bytes that wait to be written at most, but for one event.
const PENDING_BYTES: usize = 64 * 1024;

/// The end that is written to. What the disk does not take is counted as dropped.
#[derive(Debug)]
pub struct Spool {
    file: File,
    path: PathBuf,
    /// Whole lines that are not in the file yet, and how many.
    pending: Vec<u8>,
    pending_events: u64,
    /// Bytes of the file.
    end: u64,
    bytes: u64,
    dropped: u64,
    flushed: watch::Sender<u64>,
}

/// The end that is read from.
#[derive(Debug)]
pub struct SpoolReader {
    lines: BufReader<File>,
    path: PathBuf,
    next: u64,
    flushed: watch::Receiver<u64>,
}

impl Spool {
    /// A new file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::create(path)?,
            path: path.to_owned(),
            pending: Vec::new(),
            pending_events: 0,
            end: 0,
            bytes: 0,
            dropped: 0,
            flushed: watch::Sender::new(0),
        })
    }

    /// A reader from the first event on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn reader(&self) -> io::Result<SpoolReader> {
        let lines = BufReader::new(File::open(&self.path)?);
        Ok(SpoolReader { lines, path: self.path.clone(), next: 0, flushed: self.flushed.subscribe() })
    }

    /// Adds an event of the worker's own.
    pub fn add(&mut self, body: EventBody) {
        self.write(&NewEvent { at: Timestamp::now(), body, raw: None });
    }

    /// Adds events that one line of the agent's output stands for; `raw` is that line, and `size` counts as
    /// dropped when there is no room.
    pub fn add_output(&mut self, bodies: Vec<EventBody>, raw: Option<&str>, size: usize) {
        if self.is_full() {
            self.dropped += size as u64;
            return;
        }
        let at = Timestamp::now();
        let mut raw = raw.filter(|raw| raw.len() <= limits::OUTPUT_LINE_BYTES).map(str::to_owned);
        for body in bodies {
            self.write(&NewEvent { at, body, raw: raw.take() });
        }
    }

    /// Whether there is no room for more of the agent's output.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes + self.pending.len() as u64 + RESERVE >= limits::TASK_OUTPUT_BYTES
    }

    /// Counts output that is on no event.
    pub fn count_dropped(&mut self, bytes: u64) {
        self.dropped += bytes;
    }

    fn write(&mut self, event: &NewEvent) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        if line.len() > EVENT_BYTES {
            self.dropped += line.len() as u64;
            return;
        }
        line.push(b'\n');
        self.pending.append(&mut line);
        self.pending_events += 1;
        if self.pending.len() > PENDING_BYTES {
            self.flush();
        }
    }

    /// Writes what was added, and lets the reader see it.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let size = self.pending.len() as u64;
        if self.file.write_all_at(&self.pending, self.end).is_ok() {
            self.end += size;
            self.bytes += size + NUMBERS * self.pending_events;
            self.flushed.send_modify(|flushed| *flushed += self.pending_events);
        } else {
            // A part of a line would shift all that come after it, here and at whoever finds the file.
            let _ = self.file.set_len(self.end);
            self.dropped += size;
        }
        self.pending.clear();
        self.pending_events = 0;
    }

    /// Says what was dropped, and ends the stream.
    pub fn finish(mut self) {
        self.flush();
        if self.dropped > 0 {
            self.add(EventBody::Dropped { bytes: self.dropped });
        }
        self.flush();
    }
}

impl SpoolReader {
    /// The place of the next event.
    #[must_use]
    pub fn place(&self) -> u64 {
        self.next
    }

    /// Whether there are events that the next call answers at once.
    #[must_use]
    pub fn has_more(&self) -> bool {
        *self.flushed.borrow() > self.next
    }

    /// Waits for the next events: at least one, at most as many as go into a request. `None` at the end.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn next_events(&mut self) -> io::Result<Option<Vec<NewEvent>>> {
        let next = self.next;
        let ended = self.flushed.wait_for(|flushed| *flushed > next).await.is_err();
        let flushed = *self.flushed.borrow();
        if ended && flushed <= self.next {
            return Ok(None);
        }
        let (mut events, mut bytes) = (Vec::new(), 0);
        while self.next < flushed && events.len() < limits::EVENTS_PER_REQUEST && bytes < BATCH_BYTES {
            let mut line = Vec::new();
            bytes += self.lines.read_until(b'\n', &mut line)?;
            events.push(serde_json::from_slice(&line)?);
            self.next += 1;
        }
        Ok(Some(events))
    }

    /// Goes on from another place.
    ///
    /// # Errors
    /// What the file system says.
    pub fn seek(&mut self, place: u64) -> io::Result<()> {
        self.lines = BufReader::new(File::open(&self.path)?);
        let mut line = Vec::new();
        for _ in 0..place {
            line.clear();
            self.lines.read_until(b'\n', &mut line)?;
        }
        self.next = place;
        Ok(())
    }
}

/// Bytes of one event. The coordinator takes no larger ones.
const EVENT_BYTES: usize = 4 * limits::OUTPUT_LINE_BYTES;

/// Bytes of events in one request, but for the last one of them: together under the limit of a body.
const BATCH_BYTES: usize = limits::BODY_BYTES / 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn spool() -> (tempfile::TempDir, Spool, SpoolReader) {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::create(&folder.path().join("events")).unwrap();
        let reader = spool.reader().unwrap();
        (folder, spool, reader)
    }

    fn output(text: &str) -> EventBody {
        EventBody::Output { stream: "stdout".into(), text: text.into() }
    }

    #[tokio::test]
    async fn events_come_in_their_order_in_requests_that_are_allowed_and_again_from_any_place() {
        let (_folder, mut spool, mut reader) = spool();
        for number in 0..2_500 {
            spool.add_output(vec![output(&number.to_string())], None, 4);
        }
        spool.finish();
        let mut places = Vec::new();
        while let Some(events) = reader.next_events().await.unwrap() {
            assert!(events.len() <= limits::EVENTS_PER_REQUEST);
            places.push(reader.place());
        }
        assert_eq!(places, [1_000, 2_000, 2_500]);
        reader.seek(1_234).unwrap();
        assert_eq!(reader.next_events().await.unwrap().unwrap()[0].body, output("1234"));
    }

    #[tokio::test]
    async fn a_request_is_no_larger_than_a_body_may_be() {
        let (_folder, mut spool, mut reader) = spool();
        let line = "\u{1}".repeat(limits::OUTPUT_LINE_BYTES / 2);
        for _ in 0..20 {
            spool.add_output(vec![output(&line)], None, line.len());
        }
        spool.finish();
        let mut count = 0;
        while let Some(events) = reader.next_events().await.unwrap() {
            count += events.len();
            let body = protocol::event::NewEvents { first: 0, events };
            assert!(serde_json::to_vec(&body).unwrap().len() < limits::BODY_BYTES);
        }
        assert_eq!(count, 20);
    }

    #[tokio::test]
    async fn what_is_over_the_limit_is_counted_and_said_last() {
        let (_folder, mut spool, mut reader) = spool();
        let line = "x".repeat(100_000);
        let mut kept = 0;
        for _ in 0..1_000 {
            kept += u64::from(!spool.is_full());
            spool.add_output(vec![output(&line)], None, line.len());
        }
        spool.add(EventBody::Stage { stage: "commit".into() });
        spool.finish();
        let mut last = Vec::new();
        while let Some(events) = reader.next_events().await.unwrap() {
            last = events;
        }
        let bodies: Vec<_> = last.into_iter().rev().take(2).map(|event| event.body).collect();
        let dropped = EventBody::Dropped { bytes: (1_000 - kept) * 100_000 };
        assert_eq!(bodies, [dropped, EventBody::Stage { stage: "commit".into() }]);
    }

    #[tokio::test]
    async fn what_the_disk_did_not_take_is_counted_and_what_comes_after_is_whole() {
        let (_folder, mut spool, mut reader) = spool();
        spool.add(output("before"));
        spool.flush();
        let writable = std::mem::replace(&mut spool.file, File::open(&spool.path).unwrap());
        spool.add(output("not taken"));
        spool.flush();
        spool.file = writable;
        spool.add(output("after"));
        spool.finish();
        let events = reader.next_events().await.unwrap().unwrap();
        let bodies: Vec<_> = events.into_iter().map(|event| event.body).collect();
        assert_eq!(bodies[..2], [output("before"), output("after")]);
        assert!(matches!(bodies[2..], [EventBody::Dropped { bytes: 50.. }]), "{bodies:?}");
    }

    #[tokio::test]
    async fn a_reader_that_has_read_all_waits_for_more() {
        let (_folder, mut spool, mut reader) = spool();
        let (found, ()) = tokio::join!(reader.next_events(), async {
            tokio::task::yield_now().await;
            spool.add(output("late"));
            spool.flush();
        });
        assert_eq!(found.unwrap().unwrap().len(), 1);
    }
}
