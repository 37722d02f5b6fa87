//! Taking a worker's events into its task's output files.

use std::sync::Arc;

use protocol::{
    Code, EventBody, NewEvent, Problem, TaskId,
    event::{EventsStored, NewEvents},
    limits,
};

use super::{
    Outputs, Told,
    kept::{Chunk, Kept},
    line::{self, LineOf},
};
use crate::{
    queue::{Queue, StoreError, locked},
    tokens::Claim,
};

impl Outputs {
    /// Stores an event of the coordinator's own among those of a task's attempt, if one runs. May wait for the disk.
    ///
    /// # Errors
    /// `unknown_task`, `storage_unavailable`.
    pub fn say(self: &Arc<Self>, queue: &Queue, task: &TaskId, event: &NewEvent) -> Result<(), Problem> {
        self.grow(queue, task, |kept, told| {
            if told.running { say(kept, told, event).map_err(|error| broken(&error).into()) } else { Ok(()) }
        })
    }

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
        let mut stored = 0;
        self.grow(queue, task, |kept, told| {
            if !(told.running && told.claim == claim) {
                return Err(queue.lost(task));
            }
            let appended = append(kept, told, batch);
            stored = kept.stored;
            appended.map_err(|error| broken(&error).into())
        })?;
        Ok(EventsStored { stored })
    }

    /// Adds to a task's files, and tells those who follow.
    fn grow(
        self: &Arc<Self>,
        queue: &Queue,
        task: &TaskId,
        add: impl FnOnce(&mut Kept, Told) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let open = self.open(queue, task)?;
        let mut file = locked(&open.stream.file);
        // Under the file's lock: a line that is written now is before all that is committed later.
        let told = *locked(&open.stream.told);
        let Some(told) = told else { return Err(queue.lost(task)) };
        let kept = self.kept(&mut file, task).map_err(|error| broken(&error))?;
        let clean = kept.grown.is_empty();
        let added = add(kept, told);
        if clean && !kept.grown.is_empty() {
            locked(&self.grown).insert(task.clone(), open.stream.clone());
        }
        open.stream.changed.send_replace(());
        added
    }
}

fn check(batch: &NewEvents) -> Result<(), Problem> {
    if batch.events.len() > limits::EVENTS_PER_REQUEST {
        let why =
            format!("events: {} came, and {} is the most", batch.events.len(), limits::EVENTS_PER_REQUEST);
        return Err(Problem::new(Code::TooLarge, why));
    }
    if batch
        .events
        .iter()
        .any(|event| matches!(event.body, EventBody::State { .. } | EventBody::Budget { .. }))
    {
        let why = "events: the kinds \"state\" and \"budget\" are the coordinator's to say";
        return Err(Problem::new(Code::Invalid, why));
    }
    Ok(())
}

pub(super) fn broken(error: &std::io::Error) -> StoreError {
    StoreError::Storage(format!("output file: {error}"))
}

/// Where it fails, what came before is stored, and counted.
fn append(kept: &mut Kept, told: Told, batch: NewEvents) -> std::io::Result<()> {
    of_attempt(kept, told);
    let NewEvents { first, events } = batch;
    if first > kept.stored {
        // The worker is told where to go on.
        return Ok(());
    }
    let known = usize::try_from(kept.stored - first).unwrap_or(usize::MAX);
    let mut waiting = Chunk { stored: kept.stored, ..Chunk::default() };
    for mut event in events.into_iter().skip(known) {
        let gone = line::cut(&mut event);
        let said = (gone > 0).then(|| line::dropped(event.at, gone));
        // An event and what was cut off it are one: both come into the same file, or neither.
        let mut one = Chunk { stored: waiting.stored + 1, ..Chunk::default() };
        for e in [Some(&event), said.as_ref()].into_iter().flatten() {
            one.lines += 1;
            let o = kept.view.end.lines + waiting.lines + one.lines;
            line::write(&mut one.text, &LineOf { l: told.events, o, a: kept.attempt, i: one.stored, e })?;
        }
        if !kept.fits(&waiting, one.text.len()) {
            kept.write(told.events, &mut waiting)?;
            kept.begin_segment()?;
        }
        waiting.add(one);
    }
    kept.write(told.events, &mut waiting)
}

/// Numbers of the attempt that runs.
fn of_attempt(kept: &mut Kept, told: Told) {
    if kept.attempt != told.claim.attempt {
        (kept.attempt, kept.stored) = (told.claim.attempt, 0);
    }
}

/// A line that counts as none of the worker's.
fn say(kept: &mut Kept, told: Told, event: &NewEvent) -> std::io::Result<()> {
    of_attempt(kept, told);
    let mut one = Chunk { lines: 1, stored: kept.stored, ..Chunk::default() };
    let o = kept.view.end.lines + 1;
    let line = LineOf { l: told.events, o, a: kept.attempt, i: kept.stored, e: event };
    line::write(&mut one.text, &line)?;
    if !kept.fits(&Chunk::default(), one.text.len()) {
        kept.begin_segment()?;
    }
    kept.write(told.events, &mut one)
}
