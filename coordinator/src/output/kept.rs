//! What is kept of a task's output on disk: its head in one file, its end in a ring of segments. What was between is
//! gone, and is known by its numbers alone.
//!
//! ```text
//! output/TASK                        the head
//! output/TASK+end/BYTES-LINES        a segment; its name says what came before it
//! output/TASK+end/runs               who wrote the lines after the head: one line whenever that changes
//! ```
//! No task's name has a `+`.

use std::{
    collections::{BTreeSet, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use protocol::TaskId;
use serde::{Deserialize, Serialize};

use super::{
    Bounds, line,
    scan::{Scanned, scan},
};
use crate::crash_point::crash_point;

/// A place in a task's output: the lines before it and their bytes, counting those that are gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) bytes: u64,
    pub(super) lines: u64,
}

/// Lines after the head that have one attempt, and the same count of lifecycle events before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) l: u64,
    pub(super) a: u32,
    /// Where they begin.
    pub(super) after: Place,
}

/// The files of one task's output.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) head: PathBuf,
    pub(super) end: PathBuf,
}

impl Paths {
    pub(super) fn of(folder: &Path, task: &TaskId) -> Self {
        Self { head: folder.join(task.as_str()), end: folder.join(format!("{task}+end")) }
    }

    pub(super) fn segment(&self, start: Place) -> PathBuf {
        self.end.join(format!("{}-{}", start.bytes, start.lines))
    }

    fn runs(&self) -> PathBuf {
        self.end.join("runs")
    }
}

/// What is there at one moment.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// Bytes of the head.
    pub(super) head: u64,
    /// Where the segments begin that are there, the oldest first.
    pub(super) segments: VecDeque<Place>,
    /// Where all ends.
    pub(super) end: Place,
    /// Of the lines after the head, also of those that are gone.
    pub(super) runs: Vec<Run>,
}

impl View {
    /// Where the part begins that is written to.
    fn last_start(&self) -> u64 {
        self.segments.back().map_or(0, |start| start.bytes)
    }
}

/// Lines of one batch that go into one part.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) text: Vec<u8>,
    pub(super) lines: u64,
    /// Events of the attempt that are stored with it.
    pub(super) stored: u64,
}

impl Chunk {
    /// Lines that come next.
    pub(super) fn add(&mut self, mut next: Self) {
        self.text.append(&mut next.text);
        self.lines += next.lines;
        self.stored = next.stored;
    }
}

/// The files, open for more.
#[derive(Debug)]
pub(super) struct Kept {
    paths: Paths,
    bounds: Bounds,
    pub(super) view: View,
    /// The part that is written to, once it is.
    file: Option<File>,
    /// Bytes of the file of runs.
    runs: u64,
    /// The attempt that the last line belongs to.
    pub(super) attempt: u32,
    /// Events of that attempt that are stored.
    pub(super) stored: u64,
    /// Files and folders with something that may not be on disk yet.
    pub(super) grown: BTreeSet<PathBuf>,
}

impl Kept {
    /// Finds what is there. Cuts off a last line that was not written whole.
    pub(super) fn open(paths: Paths, bounds: Bounds) -> io::Result<Self> {
        let mut segments = segments(&paths.end)?;
        let mut last = None;
        while let Some(start) = segments.back().copied() {
            let scanned = trimmed(&paths.segment(start), start.lines)?;
            if scanned.bytes > 0 {
                last = Some((start, scanned));
                break;
            }
            // It had just begun.
            fs::remove_file(paths.segment(start))?;
            segments.pop_back();
        }
        let (head, last) = match last {
            Some(last) => (fs::metadata(&paths.head).map_or(0, |metadata| metadata.len()), last),
            None => {
                let scanned = trimmed(&paths.head, 0)?;
                (scanned.bytes, (Place::default(), scanned))
            }
        };
        let (start, scanned) = last;
        let end = Place { bytes: start.bytes + scanned.bytes, lines: scanned.lines };
        let (runs, size) = runs(&paths.runs(), end)?;
        let mut kept = Self {
            view: View { head, segments, end, runs },
            paths,
            bounds,
            file: None,
            runs: size,
            attempt: 0,
            stored: 0,
            grown: BTreeSet::new(),
        };
        kept.find_numbers(scanned)?;
        Ok(kept)
    }

    /// The numbers of the last line that is not damaged. What those after it said, the worker says again.
    fn find_numbers(&mut self, mut scanned: Scanned) -> io::Result<()> {
        let mut earlier = self.view.segments.iter().rev().skip(1);
        let mut at_head = self.view.segments.is_empty();
        while scanned.last.is_none() && !at_head {
            scanned = if let Some(start) = earlier.next() {
                scan(&self.paths.segment(*start), start.lines)?
            } else {
                at_head = true;
                scan(&self.paths.head, 0)?
            };
        }
        (self.attempt, self.stored) = scanned.last.unwrap_or_default();
        Ok(())
    }

    /// Whether the part that is written to takes so many bytes more.
    pub(super) fn fits(&self, waiting: &Chunk, more: usize) -> bool {
        let size = self.view.end.bytes - self.view.last_start() + line::bytes(waiting.text.len() + more);
        if self.view.segments.is_empty() {
            return size <= self.bounds.head;
        }
        let empty = self.view.end.bytes == self.view.last_start() && waiting.text.is_empty();
        size <= self.bounds.segment || empty
    }

    /// Writes the chunk's lines, or nothing. It is empty then.
    pub(super) fn write(&mut self, l: u64, chunk: &mut Chunk) -> io::Result<()> {
        if chunk.text.is_empty() {
            return Ok(());
        }
        let path = match self.view.segments.back() {
            Some(start) => self.paths.segment(*start),
            None => self.paths.head.clone(),
        };
        if !self.view.segments.is_empty() {
            self.note_run(l)?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                if !path.exists() {
                    self.grown.extend(path.parent().map(Path::to_owned));
                }
                none.insert(open(&path)?)
            }
        };
        put(file, self.view.end.bytes - self.view.last_start(), &chunk.text)?;
        crash_point("output.written");
        self.grown.insert(path);
        let chunk = std::mem::take(chunk);
        self.view.end.bytes += line::bytes(chunk.text.len());
        self.view.end.lines += chunk.lines;
        self.stored = chunk.stored;
        if self.view.segments.is_empty() {
            self.view.head = self.view.end.bytes;
        }
        Ok(())
    }

    /// Begins a segment; the oldest goes where there are too many.
    pub(super) fn begin_segment(&mut self) -> io::Result<()> {
        if let Err(error) = fs::create_dir(&self.paths.end)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let path = self.paths.segment(self.view.end);
        let file = open(&path)?;
        // What a write that failed has left.
        file.set_len(0)?;
        self.file = Some(file);
        self.view.segments.push_back(self.view.end);
        self.grown.extend([self.paths.end.clone(), path]);
        self.grown.extend(self.paths.head.parent().map(Path::to_owned));
        while self.view.segments.len() > self.bounds.segments {
            let Some(oldest) = self.view.segments.pop_front() else { break };
            let path = self.paths.segment(oldest);
            self.grown.remove(&path);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "dropped output is still on disk");
            }
        }
        Ok(())
    }

    fn note_run(&mut self, l: u64) -> io::Result<()> {
        if self.view.runs.last().is_some_and(|run| (run.l, run.a) == (l, self.attempt)) {
            return Ok(());
        }
        let run = Run { l, a: self.attempt, after: self.view.end };
        let mut text = Vec::new();
        line::write(&mut text, &run)?;
        put(&open(&self.paths.runs())?, self.runs, &text)?;
        self.runs += line::bytes(text.len());
        self.view.runs.push(run);
        self.grown.insert(self.paths.runs());
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Writes all of it at this place, which is the file's end, or nothing.
fn put(file: &File, at: u64, text: &[u8]) -> io::Result<()> {
    let written = file.write_all_at(text, at);
    if written.is_err() {
        file.set_len(at)?;
    }
    written
}

/// The segments that are there, the oldest first.
fn segments(folder: &Path) -> io::Result<VecDeque<Place>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(VecDeque::new()),
        Err(error) => return Err(error),
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name();
        let numbers = name.to_str().and_then(|name| name.split_once('-'));
        if let Some((Ok(bytes), Ok(lines))) = numbers.map(|(bytes, lines)| (bytes.parse(), lines.parse())) {
            found.insert(Place { bytes, lines });
        }
    }
    Ok(found.into_iter().collect())
}

/// Scans a file without its last line where that was not written whole, and takes that away.
fn trimmed(path: &Path, lines: u64) -> io::Result<Scanned> {
    let scanned = match newest(path)? {
        Some(scanned) => scanned,
        None => scan(path, lines)?,
    };
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if scanned.bytes < size {
        tracing::warn!(path = %path.display(), bytes = size - scanned.bytes, "a line that was not written whole is gone");
        open(path)?.set_len(scanned.bytes)?;
    }
    Ok(scanned)
}

/// What a scan would find, where the last whole line tells it all.
fn newest(path: &Path) -> io::Result<Option<Scanned>> {
    let Ok(mut file) = File::open(path) else { return Ok(None) };
    let start = file.metadata()?.len().saturating_sub(line::MOST);
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let Some(whole) = text.iter().rposition(|&byte| byte == b'\n') else { return Ok(None) };
    let last = text[..whole].rsplit(|&byte| byte == b'\n').next().and_then(line::read_event);
    Ok(last.and_then(|last| {
        let bytes = start + line::bytes(whole + 1);
        Some(Scanned { bytes, lines: last.o?, last: Some((last.a, last.i)) })
    }))
}

/// The runs up to `end` that are not damaged, and the bytes of their file.
fn runs(path: &Path, end: Place) -> io::Result<(Vec<Run>, u64)> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let mut found: Vec<Run> = Vec::new();
    let mut size = 0;
    for text in text.split_inclusive(|&byte| byte == b'\n').filter(|text| text.ends_with(b"\n")) {
        size += line::bytes(text.len());
        let Some(run) = line::read::<Run>(text) else { continue };
        // One whose lines a crash took stands before the one that took its place.
        found.retain(|known| known.after < run.after);
        found.push(run);
    }
    found.retain(|run| run.after < end);
    Ok((found, size))
}
