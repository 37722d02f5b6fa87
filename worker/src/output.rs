//! The program's output while it comes: every byte into the log, every line onto the event stream, and what a
//! report needs of it kept. Memory is bounded whatever comes.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::{EventBody, limits, report::Tokens, task::Artifact};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::{
    agent_file::{Failure, Finding, Reading},
    events::Spool,
    log::{Log, Tail},
    messages::Message,
};

/// Which pipe a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What the output said, as far as the report needs it.
#[derive(Debug)]
pub struct Seen {
    /// The last `text`.
    pub last_text: Option<String>,
    /// The first line that tells that the agent failed.
    pub failure: Option<Failure>,
    /// All `usage` together.
    pub tokens: Tokens,
    /// The end of standard output.
    pub stdout: Tail,
}

/// Where all output goes. Shared by the readers of both pipes.
#[derive(Debug, Clone)]
pub struct Output(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// `None` when it has ended.
    log: Option<Log>,
    /// `None` when it has ended.
    spool: Option<Spool>,
    reading: Reading,
    seen: Seen,
}

impl Output {
    /// Nothing has come yet; lines are plain until [`Output::read_as`].
    #[must_use]
    pub fn new(log: Log, spool: Spool) -> Self {
        let stdout = Tail::of(limits::MESSAGE_BYTES);
        let seen = Seen { last_text: None, failure: None, tokens: Tokens::default(), stdout };
        Self(Arc::new(Mutex::new(Inner {
            log: Some(log),
            spool: Some(spool),
            reading: Reading::Plain,
            seen,
        })))
    }

    /// How standard output is to be understood from here on.
    pub fn read_as(&self, reading: Reading) {
        self.lock().reading = reading;
    }

    /// Says that the worker came to a part of its work.
    pub fn stage(&self, name: &str) {
        self.lock().say(EventBody::Stage { stage: name.to_owned() });
    }

    /// A remark of the worker's own, in the log.
    pub fn note(&self, text: &str) {
        tracing::info!("{text}");
        self.lock().note(text);
    }

    /// A failure of the worker's own, in the log and on the stream, as far as these have not ended.
    pub fn error(&self, message: &str) {
        tracing::warn!("{message}");
        let mut inner = self.lock();
        inner.note(message);
        inner.say(EventBody::Error { message: message.to_owned() });
    }

    /// The agent is told this.
    pub fn message(&self, message: &Message) {
        let mut inner = self.lock();
        inner.note(&format!("the agent is told: {}", message.text));
        inner.say(EventBody::Message { seq: message.seq, text: message.text.clone() });
    }

    /// A message that no agent hears.
    pub fn unheard(&self, seq: u64, why: &str) {
        self.error(&format!("message {seq} was not handed to the agent: {why}"));
    }

    /// Takes what was seen so far.
    #[must_use]
    pub fn take_seen(&self) -> Seen {
        let stdout = Tail::of(limits::MESSAGE_BYTES);
        let empty = Seen { last_text: None, failure: None, tokens: Tokens::default(), stdout };
        std::mem::replace(&mut self.lock().seen, empty)
    }

    /// Whether more came than is kept; `false` when the log has ended.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.lock().log.as_ref().is_some_and(Log::is_cut)
    }

    /// Ends the log: its artifact and its end. Whatever comes later is in none.
    #[must_use]
    pub fn end_log(&self) -> (Option<Artifact>, String) {
        self.lock().log.take().map_or((None, String::new()), Log::finish)
    }

    /// Ends the stream of events.
    pub fn end_events(&self) {
        if let Some(spool) = self.lock().spool.take() {
            spool.finish();
        }
    }

    /// Reads a pipe to its end.
    ///
    /// # Errors
    /// What the pipe says.
    pub async fn read(&self, stream: Stream, mut pipe: impl AsyncRead + Unpin) -> io::Result<()> {
        let (mut lines, mut buffer) = (Lines::default(), vec![0; 64 * 1024]);
        loop {
            let read = pipe.read(&mut buffer).await?;
            let bytes = buffer.get(..read).unwrap_or_default();
            let mut inner = self.lock();
            if let Some(log) = &mut inner.log {
                log.add(bytes);
            }
            if stream == Stream::Stdout {
                inner.seen.stdout.add(bytes);
            }
            lines.split(bytes, |line, over| inner.line(stream, line, over));
            if bytes.is_empty() {
                lines.end(|line, over| inner.line(stream, line, over));
            }
            inner.flush();
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note(&mut self, text: &str) {
        if let Some(log) = &mut self.log {
            log.note(text);
        }
    }

    fn say(&mut self, body: EventBody) {
        if let Some(spool) = &mut self.spool {
            spool.add(body);
            spool.flush();
        }
    }

    fn flush(&mut self) {
        if let Some(spool) = &mut self.spool {
            spool.flush();
        }
    }

    fn line(&mut self, stream: Stream, line: &[u8], over: u64) {
        // An agent's lines tell how it ended: they are understood also when there is no room for events.
        let findings = match stream {
            Stream::Stdout if over == 0 => self.reading.findings(line),
            _ => None,
        };
        for finding in findings.iter().flatten() {
            self.seen.see(finding);
        }
        let Some(spool) = &mut self.spool else { return };
        spool.count_dropped(over);
        let Some(findings) = findings else { return plain_line(spool, stream, line) };
        let bodies = findings.into_iter().map(|finding| finding.body).collect();
        spool.add_output(bodies, Some(&String::from_utf8_lossy(line)), line.len());
    }
}

fn plain_line(spool: &mut Spool, stream: Stream, line: &[u8]) {
    let name = if stream == Stream::Stdout { "stdout" } else { "stderr" };
    let shown = line.get(..limits::OUTPUT_LINE_BYTES).unwrap_or(line);
    spool.count_dropped((line.len() - shown.len()) as u64);
    let text = String::from_utf8_lossy(shown).into_owned();
    spool.add_output(vec![EventBody::Output { stream: name.to_owned(), text }], None, shown.len());
}

impl Seen {
    /// What two turns said: the later one tells how it ended.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        let tokens = Tokens {
            input: self.tokens.input.saturating_add(later.tokens.input),
            output: self.tokens.output.saturating_add(later.tokens.output),
        };
        Self { last_text: later.last_text.or(self.last_text), tokens, ..later }
    }

    fn see(&mut self, finding: &Finding) {
        match &finding.body {
            EventBody::Text { text } => self.last_text = Some(text.clone()),
            EventBody::Usage { input_tokens, output_tokens } => {
                self.tokens.input = self.tokens.input.saturating_add(*input_tokens);
                self.tokens.output = self.tokens.output.saturating_add(*output_tokens);
            }
            _ => {}
        }
        if self.failure.is_none() {
            self.failure.clone_from(&finding.failure);
        }
    }
}

/// Bytes of a line that are kept to be understood: the CLIs put whole files into one. (What is shown of it is
/// [`limits::OUTPUT_LINE_BYTES`] at most.)
const LINE_BYTES: usize = 4 * 1024 * 1024;

/// Cuts a stream into lines. Of a line that is too long, the start is kept.
#[derive(Debug, Default)]
struct Lines {
    kept: Vec<u8>,
    over: u64,
}

impl Lines {
    /// Calls `each` with every line that ends, without its end, and with how many bytes of it are missing.
    fn split(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8], u64)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = LINE_BYTES - self.kept.len();
            let fits = text.get(..room).unwrap_or(text);
            self.over += (text.len() - fits.len()) as u64;
            self.kept.extend_from_slice(fits);
            if ended {
                self.give(&mut each);
            }
        }
    }

    /// The last line, when it has no end.
    fn end(&mut self, mut each: impl FnMut(&[u8], u64)) {
        if !self.kept.is_empty() || self.over > 0 {
            self.give(&mut each);
        }
    }

    fn give(&mut self, each: &mut impl FnMut(&[u8], u64)) {
        each(self.kept.strip_suffix(b"\r").unwrap_or(&self.kept), self.over);
        self.kept.clear();
        self.over = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(parts: &[&[u8]]) -> Vec<(Vec<u8>, u64)> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut each = |line: &[u8], over| found.push((line.to_vec(), over));
        for part in parts {
            lines.split(part, &mut each);
        }
        lines.end(&mut each);
        found
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let whole = split(&[b"one\ntwo\r\n\nend"]);
        assert_eq!(whole, split(&[b"o", b"ne\ntw", b"o\r", b"\n\ne", b"nd"]));
        let texts: Vec<_> = whole.iter().map(|(line, _)| line.as_slice()).collect();
        assert_eq!(texts, [&b"one"[..], b"two", b"", b"end"]);
    }

    #[test]
    fn of_a_long_line_the_start_is_kept_and_the_rest_counted() {
        let long = vec![b'x'; LINE_BYTES + 5];
        let found = split(&[&long, b"yy\nnext\n"]);
        assert_eq!(found[0].0.len(), LINE_BYTES);
        assert_eq!(found[0].1, 7);
        assert_eq!(found[1], (b"next".to_vec(), 0));
    }
}
