//! Writing events down: one a line, in the order in which they are numbered.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use protocol::{EventBody, NewEvent, limits};
use tokio::sync::watch;

use super::{
    SpoolReader,
    row::{Chunk, Row},
};

/// Bytes that wait to be written at most, but for one event.
const PENDING_BYTES: u64 = 64 * 1024;
/// Bytes of one event. The coordinator takes no larger ones.
const EVENT_BYTES: usize = 4 * limits::OUTPUT_LINE_BYTES;

/// The end that is written to. What the disk does not take is counted as dropped.
#[derive(Debug)]
pub struct Spool {
    row: Arc<Mutex<Row>>,
    /// What is not in a file yet.
    pending: Chunk,
    /// Bytes that are said last.
    dropped: u64,
    grown: watch::Sender<()>,
}

impl Spool {
    /// A new folder, of files as in [`protocol::inside::Outbox::events`].
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let row = Arc::new(Mutex::new(Row::create(folder)?));
        Ok(Self { row, pending: Chunk::default(), dropped: 0, grown: watch::Sender::new(()) })
    }

    /// A reader from the first event on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn reader(&self) -> io::Result<SpoolReader> {
        SpoolReader::new(self.row.clone(), self.grown.subscribe())
    }

    /// Adds an event of the worker's own.
    pub fn add(&mut self, body: EventBody) {
        self.write(&NewEvent { at: Timestamp::now(), body, raw: None }, None);
    }

    /// Adds events that one line of the agent's output stands for; `raw` is that line, and `size` counts as
    /// dropped when there is no room.
    pub fn add_output(&mut self, bodies: Vec<EventBody>, raw: Option<&str>, size: usize) {
        let at = Timestamp::now();
        let mut raw = raw.filter(|raw| raw.len() <= limits::OUTPUT_LINE_BYTES).map(str::to_owned);
        let mut size = size as u64;
        for body in bodies {
            self.write(&NewEvent { at, body, raw: raw.take() }, Some(std::mem::take(&mut size)));
        }
    }

    /// Counts output that is on no event.
    pub fn count_dropped(&mut self, bytes: u64) {
        self.dropped += bytes;
    }

    /// `size` counts when it is dropped, or all of it where there is none.
    fn write(&mut self, event: &NewEvent, size: Option<u64>) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        if line.len() > EVENT_BYTES {
            self.dropped += line.len() as u64;
            return;
        }
        let size = size.unwrap_or(line.len() as u64);
        line.push(b'\n');
        self.pending.text.append(&mut line);
        self.pending.events += 1;
        self.pending.size += size;
        if self.pending.len() > PENDING_BYTES {
            self.flush();
        }
    }

    /// Writes what was added, and lets the reader see it.
    pub fn flush(&mut self) {
        let chunk = std::mem::take(&mut self.pending);
        if chunk.text.is_empty() {
            return;
        }
        let mut row = locked(&self.row);
        self.dropped += row.make_room(chunk.len());
        if row.append(&chunk).is_err() {
            self.dropped += chunk.size;
        }
        drop(row);
        self.grown.send_replace(());
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

pub(super) fn locked(row: &Mutex<Row>) -> MutexGuard<'_, Row> {
    row.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{super::row::SEGMENT_BYTES, *};

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

    /// Bytes of the folder's files.
    fn size(folder: &Path) -> u64 {
        std::fs::read_dir(folder.join("events"))
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum()
    }

    /// So many bytes of output a line.
    const LINE: usize = 50_000;

    fn add_line(spool: &mut Spool, number: usize) {
        spool.add_output(vec![output(&format!("{number:0LINE$}"))], None, LINE);
        spool.flush();
    }

    fn number(body: &EventBody) -> usize {
        let EventBody::Output { text, .. } = body else { panic!("{body:?}") };
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn all_arrives_at_a_reader_that_keeps_up_and_the_folder_stays_small() {
        let (folder, mut spool, mut reader) = spool();
        let count = 2 * usize::try_from(limits::UNSENT_EVENTS_BYTES).unwrap() / LINE;
        let mut next = 0;
        for number_written in 0..count {
            add_line(&mut spool, number_written);
            for event in reader.next_events().await.unwrap().unwrap() {
                assert_eq!(number(&event.body), next);
                next += 1;
            }
            assert_eq!(reader.place(), next as u64);
            assert!(size(folder.path()) <= 2 * SEGMENT_BYTES);
        }
        spool.finish();
        assert_eq!(reader.next_events().await.unwrap(), None);
        assert_eq!(next, count);
    }

    #[tokio::test]
    async fn at_a_reader_that_stands_still_the_middle_is_dropped_and_said_in_its_place() {
        let (folder, mut spool, mut reader) = spool();
        for number in 0..10 {
            add_line(&mut spool, number);
        }
        assert_eq!(reader.next_events().await.unwrap().unwrap().len(), 10);
        let count = 3 * usize::try_from(limits::UNSENT_EVENTS_BYTES).unwrap() / LINE;
        for number in 10..count {
            add_line(&mut spool, number);
            assert!(size(folder.path()) <= limits::UNSENT_EVENTS_BYTES);
        }
        assert!(size(folder.path()) > limits::UNSENT_EVENTS_BYTES - 2 * SEGMENT_BYTES);
        spool.finish();
        // The answer to what was read before was lost.
        reader.seek(5).unwrap();
        let (mut next, mut holes) = (5, 0);
        while let Some(events) = reader.next_events().await.unwrap() {
            for event in events {
                if let EventBody::Dropped { bytes } = event.body {
                    holes += 1;
                    next += usize::try_from(bytes).unwrap() / LINE;
                } else {
                    assert_eq!(number(&event.body), next);
                    next += 1;
                }
            }
        }
        assert_eq!((next, holes), (count, 1));
    }

    #[tokio::test]
    async fn what_is_left_comes_in_its_place_where_stored_events_are_lost() {
        let (folder, mut spool, mut reader) = spool();
        for number in 0..150 {
            add_line(&mut spool, number);
        }
        spool.finish();
        while reader.place() < 100 {
            reader.next_events().await.unwrap();
        }
        reader.seek(3).unwrap();
        assert_eq!(reader.place(), 3);
        let events = reader.next_events().await.unwrap().unwrap();
        let first = number(&events[0].body);
        assert!((10..100).contains(&first), "{first}");
        assert!(folder.path().join("events/00000001-3").exists(), "a launcher finds the place too");
        assert!(reader.seek(1_000).is_err());
    }

    #[tokio::test]
    async fn what_the_disk_did_not_take_is_counted_and_what_comes_after_is_whole() {
        let (_folder, mut spool, mut reader) = spool();
        spool.add(output("before"));
        spool.flush();
        let closed = locked(&spool.row).open().unwrap();
        let writable = locked(&spool.row).replace_file(closed);
        spool.add(output("not taken"));
        spool.flush();
        locked(&spool.row).replace_file(writable);
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
