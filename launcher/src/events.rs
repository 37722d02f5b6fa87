//! Delivers the events that a dead sandbox's worker wrote down and could not send.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};

use protocol::NewEvent;
use protocol::client::{ClientError, LeasedClient};
use protocol::event::NewEvents;
use protocol::inside::{EventsFile, Outbox};
use protocol::limits::{BODY_BYTES, EVENTS_PER_REQUEST, OUTPUT_LINE_BYTES, UNSENT_EVENTS_BYTES};

use crate::outbox::EventsFolder;

/// Bytes of one event at most: more than a worker writes.
const EVENT_BYTES: u64 = 8 * OUTPUT_LINE_BYTES as u64;
/// Bytes of events in one request, but for the last one of them.
const BATCH_BYTES: u64 = BODY_BYTES as u64 / 4;

/// Sends what the coordinator has not stored yet. What is refused, or cannot be read, is said and left.
///
/// # Errors
/// When it may do better later.
pub(crate) async fn deliver(client: &LeasedClient, outbox: &Outbox) -> Result<(), ClientError> {
    match send(client, outbox).await {
        Err(Left::Later(error)) => return Err(error),
        Err(Left::Refused(error)) => tracing::info!(%error, "events of a dead sandbox were refused"),
        Err(Left::Unreadable(error)) => tracing::warn!(%error, "events of a dead sandbox cannot be read"),
        Ok(()) => {}
    }
    Ok(())
}

enum Left {
    Later(ClientError),
    Refused(ClientError),
    Unreadable(io::Error),
}

impl From<ClientError> for Left {
    fn from(error: ClientError) -> Self {
        if error.is_passing() { Self::Later(error) } else { Self::Refused(error) }
    }
}

impl From<io::Error> for Left {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

async fn send(client: &LeasedClient, outbox: &Outbox) -> Result<(), Left> {
    let Some(folder) = EventsFolder::open(outbox)? else { return Ok(()) };
    // To be told where to begin.
    let mut place = client.events(&NewEvents { first: 0, events: Vec::new() }).await?.stored;
    let mut lines = Lines::after(&folder, place)?;
    loop {
        let events = next_batch(&mut lines)?;
        if events.is_empty() {
            return Ok(());
        }
        let batch = NewEvents { first: place, events };
        place += batch.events.len() as u64;
        let stored = client.events(&batch).await?.stored;
        if stored != place {
            let why = format!("{place} were sent and {stored} are stored: somebody else sends them too");
            return Err(io::Error::other(why).into());
        }
    }
}

fn next_batch(lines: &mut Lines<'_>) -> io::Result<Vec<NewEvent>> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    while events.len() < EVENTS_PER_REQUEST && bytes < BATCH_BYTES {
        let Some(line) = lines.next()? else { break };
        bytes += line.len() as u64;
        events.push(serde_json::from_slice(&line)?);
    }
    Ok(events)
}

/// The lines of all files, one after the other.
struct Lines<'a> {
    folder: &'a EventsFolder<'a>,
    /// Those that come after the one that is read.
    files: VecDeque<EventsFile>,
    file: BufReader<File>,
    /// Bytes that are read at most.
    room: u64,
}

impl<'a> Lines<'a> {
    /// Those that come after so many of the attempt's events.
    fn after(folder: &'a EventsFolder<'a>, stored: u64) -> io::Result<Self> {
        let mut files = folder.files()?;
        let Some(oldest) = files.pop_front() else {
            return Err(io::Error::other("no file of events is there"));
        };
        let EventsFile { ordinal, first: Some(first) } = oldest else {
            return Err(io::Error::other(format!("the oldest file of events, {oldest}, says no place")));
        };
        let first = if first > stored {
            // What was before is gone here and there. The name tells it to who has to send this again.
            tracing::warn!(events = first - stored, "stored events were lost");
            let name = |first| EventsFile { ordinal, first: Some(first) };
            folder.rename(name(first), name(stored))?;
            stored
        } else {
            first
        };
        let file = BufReader::new(folder.file(EventsFile { ordinal, first: Some(first) })?);
        let mut lines = Self { folder, files, file, room: 2 * UNSENT_EVENTS_BYTES };
        for _ in first..stored {
            if lines.next()?.is_none() {
                break;
            }
        }
        Ok(lines)
    }

    /// The next whole line. A file's last one without an end was not written whole.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut line = Vec::new();
            self.file.by_ref().take(EVENT_BYTES.min(self.room)).read_until(b'\n', &mut line)?;
            self.room -= line.len() as u64;
            if line.ends_with(b"\n") {
                return Ok(Some(line));
            }
            let Some(next) = self.files.pop_front() else { return Ok(None) };
            self.file = BufReader::new(self.folder.file(next)?);
        }
    }
}
