//! The files of events that are there. The oldest is being sent, the newest is written to, and of those between
//! them the oldest go where there is no room: the end is what a reader of the stream wants most.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use protocol::{EventBody, NewEvent, inside::EventsFile, limits};

use crate::outbox;

/// Bytes of one file at most.
pub(super) const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Whole lines.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) text: Vec<u8>,
    pub(super) events: u64,
    /// What is told as dropped where these are not on the stream, in bytes.
    pub(super) size: u64,
}

impl Chunk {
    pub(super) fn len(&self) -> u64 {
        self.text.len() as u64
    }
}

#[derive(Debug)]
struct Segment {
    ordinal: u64,
    bytes: u64,
    events: u64,
    /// As in [`Chunk`].
    size: u64,
    /// Whether it says alone what was dropped in its place.
    hole: bool,
}

#[derive(Debug)]
pub(super) struct Row {
    folder: PathBuf,
    /// The place of the oldest file's first event. Its name has it too.
    first: u64,
    oldest: Segment,
    newer: VecDeque<Segment>,
    /// The newest.
    file: File,
}

impl Row {
    /// A new folder, with an empty file.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        fs::create_dir(folder)?;
        let file = outbox::create(&path(folder, 0, Some(0)))?;
        let oldest = Segment { ordinal: 0, bytes: 0, events: 0, size: 0, hole: false };
        Ok(Self { folder: folder.to_owned(), first: 0, oldest, newer: VecDeque::new(), file })
    }

    /// The place of the oldest file's first event.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// How many events the oldest file has.
    pub(super) fn events(&self) -> u64 {
        self.oldest.events
    }

    /// Whether the oldest file will have no more.
    pub(super) fn has_newer(&self) -> bool {
        !self.newer.is_empty()
    }

    /// The oldest file.
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(self.path(self.oldest.ordinal, Some(self.first)))
    }

    /// Drops what has to go before so many bytes more are written; answers how much of that could not be said.
    pub(super) fn make_room(&mut self, bytes: u64) -> u64 {
        let mut unsaid = 0;
        while self.bytes() + bytes > limits::UNSENT_EVENTS_BYTES {
            // With the next file, what was dropped before it: the two holes become one.
            let count = 1 + usize::from(self.newer.front().is_some_and(|next| next.hole));
            if self.newer.len() <= count {
                break;
            }
            let (mut ordinal, mut size) = (0, 0);
            for gone in self.newer.drain(..count).rev() {
                (ordinal, size) = (gone.ordinal, size + gone.size);
                remove(&path(&self.folder, gone.ordinal, None));
            }
            match self.write_hole(ordinal, size) {
                Ok(hole) => self.newer.push_front(hole),
                Err(_) => unsaid += size,
            }
        }
        unsaid
    }

    fn bytes(&self) -> u64 {
        self.oldest.bytes + self.newer.iter().map(|segment| segment.bytes).sum::<u64>()
    }

    fn write_hole(&self, ordinal: u64, size: u64) -> io::Result<Segment> {
        let said = NewEvent { at: Timestamp::now(), body: EventBody::Dropped { bytes: size }, raw: None };
        let mut line = serde_json::to_vec(&said)?;
        line.push(b'\n');
        let (_, bytes) = self.write_new(ordinal, &line)?;
        Ok(Segment { ordinal, bytes, events: 1, size, hole: true })
    }

    /// Writes all of it, or nothing.
    pub(super) fn append(&mut self, chunk: &Chunk) -> io::Result<()> {
        let newest = self.newer.back_mut().unwrap_or(&mut self.oldest);
        if newest.bytes > 0 && newest.bytes + chunk.len() > SEGMENT_BYTES {
            let ordinal = newest.ordinal + 1;
            let (file, bytes) = self.write_new(ordinal, &chunk.text)?;
            let Chunk { events, size, .. } = *chunk;
            self.newer.push_back(Segment { ordinal, bytes, events, size, hole: false });
            self.file = file;
            return Ok(());
        }
        if let Err(error) = self.file.write_all_at(&chunk.text, newest.bytes) {
            // A part of a line would shift all that come after it, here and at whoever finds the file.
            let _ = self.file.set_len(newest.bytes);
            return Err(error);
        }
        newest.bytes += chunk.len();
        newest.events += chunk.events;
        newest.size += chunk.size;
        Ok(())
    }

    /// A new file with this in it, or none.
    fn write_new(&self, ordinal: u64, text: &[u8]) -> io::Result<(File, u64)> {
        let path = self.path(ordinal, None);
        let file = outbox::create(&path)?;
        if let Err(error) = file.write_all_at(text, 0) {
            remove(&path);
            return Err(error);
        }
        Ok((file, text.len() as u64))
    }

    /// The oldest file is stored, all of it, and goes. Nothing happens where there is no newer one.
    pub(super) fn advance(&mut self) -> io::Result<()> {
        let Some(next) = self.newer.front() else { return Ok(()) };
        let first = self.first + self.oldest.events;
        // First the number: at any time some file has one.
        fs::rename(self.path(next.ordinal, None), self.path(next.ordinal, Some(first)))?;
        remove(&self.path(self.oldest.ordinal, Some(self.first)));
        self.first = first;
        if let Some(next) = self.newer.pop_front() {
            self.oldest = next;
        }
        Ok(())
    }

    /// The oldest file's first event has another place from now on.
    pub(super) fn renumber(&mut self, first: u64) -> io::Result<()> {
        let ordinal = self.oldest.ordinal;
        fs::rename(self.path(ordinal, Some(self.first)), self.path(ordinal, Some(first)))?;
        self.first = first;
        Ok(())
    }

    fn path(&self, ordinal: u64, first: Option<u64>) -> PathBuf {
        path(&self.folder, ordinal, first)
    }

    /// A disk that takes nothing more into the newest file; answers the one that was written to.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }
}

fn path(folder: &Path, ordinal: u64, first: Option<u64>) -> PathBuf {
    folder.join(EventsFile { ordinal, first }.to_string())
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!("{} is not needed any more, and stays: {error}", path.display());
    }
}
