//! Reads usage from a stream while it passes, and drops the one chunk that the client did not ask for.

use bytes::Bytes;

use crate::{
    meter::{Event, Meter},
    sse::{EVENT_BYTES, Events},
};

/// One stream's place.
#[derive(Debug)]
pub struct Tap {
    /// What was read so far.
    pub(super) meter: Meter,
    events: Events,
    drop_usage: bool,
    /// The beginning of an event that may have to be dropped.
    held: Vec<u8>,
}

impl Tap {
    /// For one stream; with `drop_usage`, the chunk of usage is not passed on.
    #[must_use]
    pub fn new(meter: Meter, drop_usage: bool) -> Self {
        Self { meter, events: Events::default(), drop_usage, held: Vec::new() }
    }

    /// Reads a chunk, and asks after each event whether the stream may go on. Returns what is to be passed
    /// on, and whether it may.
    pub fn read(&mut self, chunk: &Bytes, mut may_go_on: impl FnMut(&Meter) -> bool) -> (Bytes, bool) {
        let mut pass = Vec::new();
        let mut at = 0;
        while at < chunk.len() {
            let (read, event) = self.events.next(&chunk[at..]);
            if self.drop_usage {
                self.held.extend_from_slice(&chunk[at..at + read]);
            }
            at += read;
            let kind = event.as_deref().map(|data| self.meter.event(data));
            // An event that is too large to be read cannot be the one to drop.
            if kind == Some(Event::Answer) || self.held.len() > EVENT_BYTES {
                pass.append(&mut self.held);
            }
            self.held.truncate(if kind.is_some() { 0 } else { self.held.len() });
            if kind.is_some() && !may_go_on(&self.meter) {
                return (if self.drop_usage { pass.into() } else { chunk.slice(..at) }, false);
            }
        }
        (if self.drop_usage { pass.into() } else { chunk.clone() }, true)
    }

    /// What was held back, at the stream's end.
    pub fn end(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Api;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":7}}\n\n";

    fn stream(texts: &[String], crlf: bool) -> (String, String) {
        let event = |text: &String| {
            let text = serde_json::Value::from(text.as_str());
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":{text}}}}}],\"usage\":null}}\n\n")
        };
        let answer: String = texts.iter().map(event).collect();
        let (seen, sent) = (format!("{answer}data: [DONE]\n\n"), format!("{answer}{USAGE}data: [DONE]\n\n"));
        if crlf { (seen.replace('\n', "\r\n"), sent.replace('\n', "\r\n")) } else { (seen, sent) }
    }

    fn passed(sent: &str, cuts: &[proptest::sample::Index], drop_usage: bool) -> (String, Meter) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(sent.len() + 1)).collect();
        cuts.push(sent.len());
        cuts.sort_unstable();
        let mut tap = Tap::new(Meter::new(Api::Chat), drop_usage);
        let (mut out, mut from) = (Vec::new(), 0);
        for cut in cuts {
            out.extend_from_slice(
                &tap.read(&Bytes::copy_from_slice(&sent.as_bytes()[from..cut]), |_| true).0,
            );
            from = cut;
        }
        out.extend_from_slice(&tap.end());
        (String::from_utf8(out).unwrap(), tap.meter)
    }

    proptest! {
        #[test]
        fn every_byte_passes_but_those_of_the_usage_that_was_not_asked_for(
            texts in proptest::collection::vec(any::<String>(), 0..8),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
            crlf in any::<bool>(),
        ) {
            let (seen, sent) = stream(&texts, crlf);
            for (drop_usage, wanted) in [(true, &seen), (false, &sent)] {
                let (out, meter) = passed(&sent, &cuts, drop_usage);
                prop_assert_eq!(&out, wanted);
                prop_assert_eq!(meter.tokens().output, 7);
                prop_assert_eq!(meter.is_final(), true);
            }
        }
    }
}
