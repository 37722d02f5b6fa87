//! One line of an output file: a checksum, and the event with its numbers. `1a2b3c4d {"l":3,"o":17,…}`

use protocol::{EventBody, NewEvent, limits};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Bytes of an event's JSON; a text within its limit fits, escapes and all.
const EVENT_BYTES: usize = 4 * limits::OUTPUT_LINE_BYTES;

/// Bytes that no line reaches.
pub(super) const MOST: u64 = 2 * EVENT_BYTES as u64;

/// Bytes of a checksum in hex, and the space after it.
const SUM: usize = 9;

/// A line, as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    /// Lifecycle events of the task before it.
    pub(super) l: u64,
    /// Which of the task's lines it is, from 1, counting those that are gone. Lines of the first version have
    /// none: nothing was ever removed before them.
    pub(super) o: Option<u64>,
    /// The attempt.
    pub(super) a: u32,
    /// Events of the attempt that are stored with this line and those before it.
    pub(super) i: u64,
    /// The event.
    pub(super) e: NewEvent,
}

/// A line, as it is written.
#[derive(Clone, Copy, Serialize)]
pub(super) struct LineOf<'a> {
    pub(super) l: u64,
    pub(super) o: u64,
    pub(super) a: u32,
    pub(super) i: u64,
    pub(super) e: &'a NewEvent,
}

/// Appends a value as a line with its checksum.
pub(super) fn write(into: &mut Vec<u8>, value: &impl Serialize) -> std::io::Result<()> {
    let start = into.len();
    into.extend_from_slice(&[b' '; SUM]);
    serde_json::to_writer(&mut *into, value)?;
    let sum = format!("{:08x}", crc32fast::hash(&into[start + SUM..]));
    into[start..start + SUM - 1].copy_from_slice(sum.as_bytes());
    into.push(b'\n');
    Ok(())
}

/// Reads a line with its checksum, with or without its end. `None` where it is damaged.
pub(super) fn read<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let (sum, json) = text.split_at_checked(SUM)?;
    let sum = std::str::from_utf8(sum.strip_suffix(b" ")?).ok()?;
    if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Reads a line of this version or of the first one, whose lines are JSON alone. `None` where it is damaged.
pub(super) fn read_event(text: &[u8]) -> Option<Line> {
    // No flipped bit makes this of a checksum's digit.
    if text.first() != Some(&b'{') {
        return read::<Line>(text).filter(|line| line.o.is_some());
    }
    serde_json::from_slice::<Line>(text).ok().filter(|line| line.o.is_none())
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
pub(super) fn dropped(at: jiff::Timestamp, bytes: u64) -> NewEvent {
    NewEvent { at, body: EventBody::Dropped { bytes }, raw: None }
}

#[cfg(test)]
mod tests {
    use protocol::{EventBody, NewEvent};

    use super::{LineOf, read_event, write};

    #[test]
    fn no_flipped_bit_is_served() {
        let body = EventBody::Output { stream: "stdout".to_owned(), text: "{\"é\": *}".to_owned() };
        let event = NewEvent { at: jiff::Timestamp::UNIX_EPOCH, body, raw: None };
        let mut line = Vec::new();
        write(&mut line, &LineOf { l: 3, o: 17, a: 1, i: 4, e: &event }).unwrap();
        let whole = read_event(&line).unwrap();
        assert_eq!((whole.l, whole.o, whole.a, whole.i, whole.e), (3, Some(17), 1, 4, event));
        for at in 0..line.len() - 1 {
            for bit in 0..8 {
                line[at] ^= 1 << bit;
                // A digit of the checksum may be written in another case; its value is the same.
                let same = at < 8 && bit == 5 && line[at].is_ascii_uppercase();
                assert_eq!(read_event(&line).is_some(), same, "byte {at}, bit {bit}");
                line[at] ^= 1 << bit;
            }
        }
    }
}
