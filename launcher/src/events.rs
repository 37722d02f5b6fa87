//! Delivers the events that a dead sandbox's worker wrote down and could not send.

use std::io::{self, BufRead, Read};

use protocol::NewEvent;
use protocol::client::{ClientError, LeasedClient};
use protocol::event::NewEvents;
use protocol::inside::Outbox;
use protocol::limits::{BODY_BYTES, EVENTS_PER_REQUEST, OUTPUT_LINE_BYTES, TASK_OUTPUT_BYTES};

use crate::outbox;

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
    let Some(mut lines) = open(outbox)? else { return Ok(()) };
    // To be told where to begin.
    let mut place = client.events(&NewEvents { first: 0, events: Vec::new() }).await?.stored;
    for _ in 0..place {
        if next(&mut lines)?.is_none() {
            return Ok(());
        }
    }
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

fn open(outbox: &Outbox) -> io::Result<Option<impl BufRead>> {
    let file = outbox::events(outbox)?;
    Ok(file.map(|file| io::BufReader::new(file.take(2 * TASK_OUTPUT_BYTES))))
}

fn next_batch(lines: &mut impl BufRead) -> io::Result<Vec<NewEvent>> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    while events.len() < EVENTS_PER_REQUEST && bytes < BATCH_BYTES {
        let Some(line) = next(lines)? else { break };
        bytes += line.len() as u64;
        events.push(serde_json::from_slice(&line)?);
    }
    Ok(events)
}

/// The next whole line; a last one without an end was not written whole.
fn next(lines: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    lines.take(EVENT_BYTES).read_until(b'\n', &mut line)?;
    Ok(line.ends_with(b"\n").then_some(line))
}
