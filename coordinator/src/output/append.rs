//! Taking a worker's events into its task's output files.

use std::sync::Arc;

use protocol::{
    Code, EventBody, Problem, TaskId,
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
        let kept = self.kept(&mut file, task).map_err(|error| broken(&error))?;
        let clean = kept.grown.is_empty();
        let appended = append(kept, told, batch);
        if clean && !kept.grown.is_empty() {
            locked(&self.grown).insert(task.clone(), open.stream.clone());
        }
        let stored = EventsStored { stored: kept.stored };
        open.stream.changed.send_replace(());
        appended.map_err(|error| broken(&error))?;
        Ok(stored)
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

pub(super) fn broken(error: &std::io::Error) -> StoreError {
    StoreError::Storage(format!("output file: {error}"))
}

/// Where it fails, what came before is stored, and counted.
fn append(kept: &mut Kept, told: Told, batch: NewEvents) -> std::io::Result<()> {
    if kept.attempt != told.claim.attempt {
        (kept.attempt, kept.stored) = (told.claim.attempt, 0);
    }
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
