//! One line of an output file.

use protocol::{EventBody, NewEvent, limits};
use serde::{Deserialize, Serialize};

/// Bytes of an event's JSON; a text within its limit fits, escapes and all.
const EVENT_BYTES: usize = 4 * limits::OUTPUT_LINE_BYTES;

/// A line, as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    /// Lifecycle events of the task before it.
    pub(super) l: u64,
    /// The attempt.
    pub(super) a: u32,
    /// Events of the attempt that are stored with this line and those before it.
    pub(super) i: u64,
    /// The event.
    pub(super) e: NewEvent,
}

/// A line, as it is written.
#[derive(Serialize)]
struct LineOf<'a> {
    l: u64,
    a: u32,
    i: u64,
    e: &'a NewEvent,
}

/// Appends a line.
pub(super) fn write(into: &mut Vec<u8>, l: u64, a: u32, i: u64, e: &NewEvent) -> std::io::Result<()> {
    serde_json::to_writer(&mut *into, &LineOf { l, a, i, e })?;
    into.push(b'\n');
    Ok(())
}

/// Cuts an event to the limits; the bytes that went.
pub(super) fn cut(event: &mut NewEvent) -> u64 {
    let mut gone = 0;
    if event.raw.as_ref().is_some_and(|raw| raw.len() > limits::OUTPUT_LINE_BYTES) {
        gone += event.raw.take().map_or(0, |raw| raw.len());
    }
    if let EventBody::Text { text } | EventBody::Output { text, .. } | EventBody::Error { message: text } =
        &mut event.body
        && text.len() > limits::OUTPUT_LINE_BYTES
    {
        let keep = text.floor_char_boundary(limits::OUTPUT_LINE_BYTES);
        gone += text.len() - keep;
        text.truncate(keep);
    }
    let size = serde_json::to_vec(event).map_or(0, |json| json.len());
    if size > EVENT_BYTES {
        event.raw = None;
        event.body = EventBody::Dropped { bytes: bytes(size) };
        return 0;
    }
    bytes(gone)
}

/// A count of bytes on the wire.
pub(super) fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The event that says that something is missing here.
pub(super) fn dropped(like: &NewEvent, bytes: u64) -> NewEvent {
    NewEvent { at: like.at, body: EventBody::Dropped { bytes }, raw: None }
}
