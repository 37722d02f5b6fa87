//! The whole output of an attempt as one artifact, with a limit, and its end as text.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use protocol::{limits, task::Artifact};
use sha2::{Digest as _, Sha256};

use crate::{artifacts::LOG, outbox};

/// The log while it is written. It lies in the outbox, so it is there also when the sandbox dies.
#[derive(Debug)]
pub struct Log<W: Write = File> {
    file: BufWriter<Hashed<W>>,
    /// Bytes of output that came.
    came: u64,
    /// Bytes of it that are kept. What comes after is counted.
    most: u64,
    tail: Tail,
}

/// A file, and the size and hash of what it took: of a write that fails, a part may be in it.
#[derive(Debug)]
struct Hashed<W> {
    file: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or(bytes));
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Log {
    /// A new file, of which so many bytes are output at most.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path, most: u64) -> io::Result<Self> {
        Ok(Self::onto(outbox::create(path)?, most))
    }
}

impl<W: Write> Log<W> {
    fn onto(file: W, most: u64) -> Self {
        let file = BufWriter::new(Hashed { file, hash: Sha256::new(), size: 0 });
        Self { file, came: 0, most, tail: Tail::of(limits::LOG_TAIL_BYTES) }
    }

    /// Adds output. A disk that is full costs the log, not the task.
    pub fn add(&mut self, bytes: &[u8]) {
        self.tail.add(bytes);
        let room = usize::try_from(self.most.saturating_sub(self.came)).unwrap_or(usize::MAX);
        self.came += bytes.len() as u64;
        // What is missing in the end is said there.
        let _ = self.file.write_all(bytes.get(..room).unwrap_or(bytes));
    }

    /// Whether more came than is kept.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.came > self.most
    }

    /// A line of the worker's own.
    pub fn note(&mut self, text: &str) {
        self.add(format!("[code-workers] {text}\n").as_bytes());
    }

    /// The artifact, which is what the file holds, and the log's end; no artifact where the disk took nothing.
    #[must_use]
    pub fn finish(mut self) -> (Option<Artifact>, String) {
        let _ = self.file.flush();
        let dropped = self.came.saturating_sub(self.file.get_ref().size);
        if dropped > 0 {
            let line = format!("\n[code-workers] {dropped} bytes of output are not in this log\n");
            let _ = self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush());
        }
        // Without what could not be written: a last try must not change the file.
        let (Hashed { hash, size, .. }, _) = self.file.into_parts();
        let artifact = Artifact { name: LOG.to_owned(), size, sha256: hex::encode(hash.finalize()) };
        let took = size > 0 || self.came == 0;
        (took.then_some(artifact), self.tail.text())
    }
}

/// The last bytes of a stream.
#[derive(Debug)]
pub struct Tail {
    bytes: Vec<u8>,
    most: usize,
}

impl Tail {
    /// Keeps at most so many.
    #[must_use]
    pub fn of(most: usize) -> Self {
        Self { bytes: Vec::new(), most }
    }

    /// Adds to the end.
    pub fn add(&mut self, bytes: &[u8]) {
        let last = bytes.get(bytes.len().saturating_sub(self.most)..).unwrap_or_default();
        self.bytes.extend_from_slice(last);
        // Twice the size before it moves, so that each byte is moved once on average.
        if self.bytes.len() > 2 * self.most {
            self.bytes.drain(..self.bytes.len() - self.most);
        }
    }

    /// As text; what is not UTF-8 is replaced, and the first character may be a part of one.
    #[must_use]
    pub fn text(&self) -> String {
        let start = self.bytes.len().saturating_sub(self.most);
        let text = String::from_utf8_lossy(self.bytes.get(start..).unwrap_or_default());
        // A replaced byte is three: hold the limit all the same.
        let mut from = text.len().saturating_sub(self.most);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text.get(from..).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_end_and_never_over_its_limit() {
        let mut tail = Tail::of(8);
        for part in ["0123456789", "ab", "", "cdefgh\u{e9}"] {
            tail.add(part.as_bytes());
        }
        assert_eq!(tail.text(), "cdefghé");
        tail.add(&[0xff; 100]);
        assert!(tail.text().len() <= 8);
    }

    #[test]
    fn the_artifact_is_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::create(&path, limits::LOG_BYTES).unwrap();
        log.add(b"one\n");
        log.note("two");
        let (artifact, tail) = log.finish();
        let content = std::fs::read(&path).unwrap();
        let artifact = artifact.unwrap();
        assert_eq!(artifact.size, content.len() as u64);
        assert_eq!(artifact.sha256, hex::encode(Sha256::digest(&content)));
        assert_eq!(tail.as_bytes(), content);
    }

    #[test]
    fn of_a_file_that_takes_a_part_the_artifact_is_that_part() {
        let mut room = [0; 20_000];
        let mut log = Log::onto(&mut room[..], limits::LOG_BYTES);
        log.add(&vec![b'x'; 15_000]);
        log.add(&vec![b'y'; 15_000]);
        let (artifact, _) = log.finish();
        let artifact = artifact.unwrap();
        assert_eq!((artifact.size, room.last()), (20_000, Some(&b'y')));
        assert_eq!(artifact.sha256, hex::encode(Sha256::digest(room)));
    }
}
