//! Takes the real key out of what passes, wherever the chunks break. Providers do not send it back; what
//! stands between us and them might.

use bytes::Bytes;
use protocol::Secret;

/// What stands where the key stood.
pub(super) const REMOVED: &[u8] = b"[key removed]";

/// One stream's place.
#[derive(Debug)]
pub(super) struct Scrubber {
    key: Option<Secret>,
    /// The end of what came, where it may be the beginning of the key.
    held: Vec<u8>,
}

impl Scrubber {
    pub(super) fn new(key: Option<Secret>) -> Self {
        let key = key.filter(|key| !key.expose().is_empty());
        Self { key, held: Vec::new() }
    }

    /// What may be passed on now. Copies nothing where nothing looks like the key.
    pub(super) fn pass(&mut self, chunk: Bytes) -> Bytes {
        let Some(key) = &self.key else { return chunk };
        let key = key.expose().as_bytes();
        let chunk = if self.held.is_empty() {
            chunk
        } else {
            [std::mem::take(&mut self.held).as_slice(), &chunk].concat().into()
        };
        let chunk = match memchr::memmem::find(&chunk, key) {
            Some(_) => replace(&chunk, key),
            None => chunk,
        };
        let held = (1..key.len()).rev().find(|&n| chunk.ends_with(&key[..n])).unwrap_or(0);
        let free = chunk.len() - held;
        self.held.extend_from_slice(&chunk[free..]);
        chunk.slice(..free)
    }

    /// What was held back, at the stream's end.
    pub(super) fn end(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }
}

fn replace(text: &[u8], key: &[u8]) -> Bytes {
    let mut clean = Vec::with_capacity(text.len());
    let mut from = 0;
    for at in memchr::memmem::find_iter(text, key) {
        clean.extend_from_slice(&text[from..at]);
        clean.extend_from_slice(REMOVED);
        from = at + key.len();
    }
    clean.extend_from_slice(&text[from..]);
    clean.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn the_key_goes_wherever_chunks_break(
            parts in proptest::collection::vec(proptest::sample::select(vec!["s", "sk", "sk-1", "sk-1sk-", "x", ""]), 0..30),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let text = parts.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.push(text.len());
            cuts.sort_unstable();
            let mut scrubber = Scrubber::new(Some(Secret::new("sk-1")));
            let (mut passed, mut from) = (Vec::new(), 0);
            for cut in cuts {
                passed.extend_from_slice(&scrubber.pass(Bytes::copy_from_slice(&text.as_bytes()[from..cut])));
                from = cut;
            }
            passed.extend_from_slice(&scrubber.end());
            prop_assert_eq!(String::from_utf8(passed).unwrap(), text.replace("sk-1", "[key removed]"));
        }
    }
}
