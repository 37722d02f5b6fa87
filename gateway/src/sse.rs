//! Cuts a stream of server-sent events into its events, wherever the chunks break. Only the payload is kept,
//! and no more of it than [`EVENT_BYTES`].
//!
//! Lines end in LF or CRLF (all providers' do); an event ends with an empty line.

/// Bytes of one event's data that are kept. OpenAI's last event repeats the whole answer.
pub const EVENT_BYTES: usize = 8 * 1024 * 1024;

/// The reader's place in a stream.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    /// Whether the event is too large to be kept.
    overflown: bool,
}

impl Events {
    /// Reads on to the end of the next event, or of the chunk. Returns how many bytes were read and, at the
    /// end of an event, its data (empty where it has none, or too much).
    pub fn next(&mut self, chunk: &[u8]) -> (usize, Option<Vec<u8>>) {
        let mut read = 0;
        while let Some(at) = memchr::memchr(b'\n', &chunk[read..]) {
            self.extend_line(&chunk[read..read + at]);
            read += at + 1;
            if self.end_line() {
                return (read, Some(self.take()));
            }
        }
        self.extend_line(&chunk[read..]);
        (chunk.len(), None)
    }

    fn extend_line(&mut self, part: &[u8]) {
        self.overflown |= self.line.len() + self.data.len() + part.len() > EVENT_BYTES;
        if !self.overflown {
            self.line.extend_from_slice(part);
        } else if self.line.len() + part.len() > 1 {
            // All that matters now is that the line is not empty.
            self.line.clear();
            self.line.push(b'x');
        } else {
            self.line.extend_from_slice(part);
        }
    }

    /// Whether the line was the empty one that ends an event.
    fn end_line(&mut self) -> bool {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let ends = line.is_empty();
        if let Some(data) = line.strip_prefix(b"data:").filter(|_| !self.overflown) {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        self.line.clear();
        ends
    }

    fn take(&mut self) -> Vec<u8> {
        let data = std::mem::take(&mut self.data);
        let overflown = std::mem::take(&mut self.overflown);
        if overflown { Vec::new() } else { data }
    }
}

#[cfg(test)]
mod tests {
    use super::{EVENT_BYTES, Events};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn all(events: &mut Events, mut chunk: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while !chunk.is_empty() {
            let (read, event) = events.next(chunk);
            found.extend(event);
            chunk = &chunk[read..];
        }
        found
    }

    #[test]
    fn data_of_events_with_either_end_of_line() {
        let stream = b"event: a\r\ndata: {\"x\":1}\r\n\r\n: ping\n\ndata:one\ndata: two\nid: 7\n\n";
        let expected: [&[u8]; 3] = [b"{\"x\":1}", b"", b"one\ntwo"];
        assert_eq!(all(&mut Events::default(), stream), expected);
    }

    #[test]
    fn an_event_that_is_too_large_is_passed_over() {
        let mut events = Events::default();
        let part = vec![b'x'; EVENT_BYTES];
        assert_eq!(all(&mut events, b"data: "), Vec::<Vec<u8>>::new());
        assert_eq!(all(&mut events, &part), Vec::<Vec<u8>>::new());
        assert!(events.line.len() + events.data.len() <= EVENT_BYTES);
        assert_eq!(all(&mut events, b"\n\ndata: y\n\n"), [b"".to_vec(), b"y".to_vec()]);
    }

    proptest! {
        #[test]
        fn where_chunks_break_makes_no_difference(
            bytes in proptest::collection::vec(proptest::sample::select(b"d:at \r\n{}".to_vec()), 0..200),
            cut in any::<proptest::sample::Index>(),
        ) {
            let whole = all(&mut Events::default(), &bytes);
            let mut events = Events::default();
            let (left, right) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut parts = all(&mut events, left);
            parts.extend(all(&mut events, right));
            prop_assert_eq!(whole, parts);
        }
    }
}
