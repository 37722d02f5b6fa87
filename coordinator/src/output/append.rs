//! Writing a worker's events to its task's output file.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::Arc,
};

use protocol::{
    Code, EventBody, NewEvent, Problem, TaskId,
    event::{EventsStored, NewEvents},
    limits,
};

use super::{Outputs, Told, line};
use crate::{
    crash_point::crash_point,
    queue::{Queue, StoreError, locked},
    tokens::Claim,
};

/// What is read of a file's end to find its last line: no line is longer.
const TAIL: u64 = 8 * limits::OUTPUT_LINE_BYTES as u64;

/// An output file that is being written.
pub(super) struct OutputFile {
    file: File,
    /// Bytes of whole lines.
    pub(super) len: u64,
    /// The attempt that the last line belongs to.
    attempt: u32,
    /// Events of that attempt that are stored, or dropped for good.
    stored: u64,
    /// Bytes dropped since that was last said on the stream.
    unsaid: u64,
    /// Whether the limit is reached: from here on everything is dropped.
    full: bool,
}

impl Outputs {
    /// Stores a batch of a worker's events, as far as it is not stored already. May wait for the disk.
    ///
    /// # Errors
    /// `unknown_task`, `lease_lost`, `invalid`, `too_large`, `storage_unavailable`.
    pub fn append(
        self: &Arc<Self>,
        queue: &Queue,
        task: &TaskId,
        claim: Claim,
        batch: NewEvents,
    ) -> Result<EventsStored, Problem> {
        check(&batch)?;
        let open = self.open(queue, task)?;
        let mut file = locked(&open.stream.file);
        // Under the file's lock: a line that is written now is before all that is committed later.
        let told = *locked(&open.stream.told);
        let Some(told) = told.filter(|told| told.running && told.claim == claim) else {
            return Err(queue.lost(task));
        };
        let output = match &mut *file {
            Some(output) => output,
            none => none.insert(OutputFile::open(&self.path(task)).map_err(|error| broken(&error))?),
        };
        output.append(told, batch).map_err(|error| broken(&error))?;
        let stored = EventsStored { stored: output.stored };
        open.stream.changed.send_replace(());
        Ok(stored)
    }

    /// The attempt's worker has said its last: what was dropped and not yet said is said.
    pub fn say_dropped(self: &Arc<Self>, task: &TaskId, claim: Claim, at: jiff::Timestamp) {
        let Some(stream) = locked(&self.open).get(task).cloned() else { return };
        let mut file = locked(&stream.file);
        let told = locked(&stream.told).filter(|told| told.running && told.claim == claim);
        if let (Some(output), Some(told)) = (&mut *file, told)
            && output.unsaid > 0
        {
            let said = NewEvent { at, body: EventBody::Dropped { bytes: output.unsaid }, raw: None };
            let mut lines = Vec::new();
            let written = line::write(&mut lines, told.events, claim.attempt, output.stored, &said)
                .and_then(|()| output.write(&lines));
            match written {
                Ok(()) => output.unsaid = 0,
                Err(error) => tracing::warn!(%task, %error, "an output file cannot be written"),
            }
            stream.changed.send_replace(());
        }
    }
}

fn check(batch: &NewEvents) -> Result<(), Problem> {
    if batch.events.len() > limits::EVENTS_PER_REQUEST {
        let why =
            format!("events: {} came, and {} is the most", batch.events.len(), limits::EVENTS_PER_REQUEST);
        return Err(Problem::new(Code::TooLarge, why));
    }
    if batch.events.iter().any(|event| matches!(event.body, EventBody::State { .. })) {
        return Err(Problem::new(Code::Invalid, "events: kind \"state\" is the coordinator's to say"));
    }
    Ok(())
}

fn broken(error: &std::io::Error) -> Problem {
    StoreError::Storage(format!("output file: {error}")).into()
}

impl OutputFile {
    /// Opens the file for appending, or makes it; cuts off a last line that was not written whole.
    fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let size = file.metadata()?.len();
        let start = size.saturating_sub(TAIL);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let len = start + line::bytes(whole);
        file.set_len(len)?;
        file.seek(SeekFrom::End(0))?;
        let last = tail[..whole.saturating_sub(1)].rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        let (attempt, stored) =
            serde_json::from_slice::<line::Line>(last).map_or((0, 0), |line| (line.a, line.i));
        Ok(Self { file, len, attempt, stored, unsaid: 0, full: len >= limits::TASK_OUTPUT_BYTES })
    }

    fn append(&mut self, told: Told, batch: NewEvents) -> std::io::Result<()> {
        if self.attempt != told.claim.attempt {
            (self.attempt, self.stored, self.unsaid) = (told.claim.attempt, 0, 0);
        }
        let NewEvents { first, events } = batch;
        if first > self.stored {
            // After a restart, what was dropped is not counted any more. Any other gap: the worker is told where
            // to go on.
            if !self.full {
                return Ok(());
            }
            self.stored = first;
        }
        let known = usize::try_from(self.stored - first).unwrap_or(usize::MAX);
        let mut lines = Vec::new();
        for mut event in events.into_iter().skip(known) {
            self.stored += 1;
            let mut gone = line::cut(&mut event);
            let mut one = Vec::new();
            line::write(&mut one, told.events, self.attempt, self.stored, &event)?;
            let size = self.len + line::bytes(lines.len() + one.len());
            let newly_full = !self.full && size > limits::TASK_OUTPUT_BYTES;
            self.full |= newly_full;
            if self.full {
                self.unsaid += gone + line::bytes(one.len());
                gone = if newly_full { std::mem::take(&mut self.unsaid) } else { 0 };
            } else {
                lines.append(&mut one);
            }
            if gone > 0 {
                let said = line::dropped(&event, gone);
                line::write(&mut lines, told.events, self.attempt, self.stored, &said)?;
            }
        }
        self.write(&lines)
    }

    /// Writes whole lines, or nothing.
    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let written = self.file.write_all(lines);
        if let Err(error) = written {
            self.file.set_len(self.len)?;
            self.file.seek(SeekFrom::Start(self.len))?;
            return Err(error);
        }
        self.len += line::bytes(lines.len());
        crash_point("output.written");
        Ok(())
    }
}
