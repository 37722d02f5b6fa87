//! Putting what a reader finds into one order, each with its number.

use std::{collections::VecDeque, mem};

use jiff::Timestamp;
use protocol::{Event, EventBody, NewEvent, TaskId};

use super::{
    hole::pieces,
    kept::{Place, Run},
    line::{self, Line},
};

/// Gives numbers to lifecycle events and lines, as they come.
#[derive(Debug)]
pub(super) struct Teller {
    task: TaskId,
    /// Events up to this number are not wanted.
    after: u64,
    /// Lifecycle events that were gone through.
    pub(super) events: u64,
    /// Lifecycle events that come next.
    heard: VecDeque<Event>,
    /// How far the output was gone through.
    pub(super) at: Place,
    /// Damaged lines just before that, as far as they can be counted; `at.lines` is without them.
    damaged: u64,
    /// The attempt and the time of the last event.
    last: (u32, Timestamp),
    pub(super) ended: bool,
    pub(super) found: Vec<Event>,
}

impl Teller {
    pub(super) const fn new(task: TaskId, after: u64) -> Self {
        Self {
            task,
            after,
            events: 0,
            heard: VecDeque::new(),
            at: Place { bytes: 0, lines: 0 },
            damaged: 0,
            last: (0, Timestamp::UNIX_EPOCH),
            ended: false,
            found: Vec::new(),
        }
    }

    /// These lifecycle events come next, among the lines.
    pub(super) fn hear(&mut self, events: Vec<Event>) {
        self.heard = events.into();
    }

    /// The events that were found.
    pub(super) fn take(&mut self) -> Vec<Event> {
        mem::take(&mut self.found)
    }

    /// Tells the lifecycle events up to this one.
    pub(super) fn tell_lifecycle(&mut self, upto: u64) {
        while let Some(event) = self.heard.pop_front_if(|event| event.seq <= upto) {
            self.events = event.seq;
            if let EventBody::State { state, .. } = event.event.body {
                self.ended = state.is_terminal();
            }
            self.tell(event.seq, event.attempt, event.event);
        }
    }

    /// Tells a line, and what is missing before it.
    pub(super) fn tell_line(&mut self, line: Line, bytes: u64) {
        // Lines of the first version bear no number.
        let number = line.o.unwrap_or(self.at.lines + self.damaged + 1);
        if number <= self.at.lines {
            return self.pass_damaged(bytes);
        }
        self.tell_damage(number - 1);
        self.tell_lifecycle(line.l);
        self.at = Place { bytes: self.at.bytes + bytes, lines: number };
        self.tell(self.events, line.a, line.e);
    }

    /// So many bytes hold no line that can be told.
    pub(super) fn pass_damaged(&mut self, bytes: u64) {
        self.at.bytes += bytes;
        self.damaged += 1;
    }

    /// All lines up to this one that were not told are damaged.
    pub(super) fn tell_damage(&mut self, upto: u64) {
        self.damaged = 0;
        let missing = upto.saturating_sub(self.at.lines);
        if missing == 0 {
            return;
        }
        self.at.lines = upto;
        let message = match missing {
            1 => "this line of the output file is damaged".to_owned(),
            more => format!("{more} lines of the output file are damaged"),
        };
        let event = NewEvent { at: self.last.1, body: EventBody::Error { message }, raw: None };
        self.tell(self.events, self.last.0, event);
    }

    /// Tells that all up to this place is gone, with the lifecycle events that are not.
    pub(super) fn tell_hole(&mut self, runs: &[Run], to: Place) {
        if self.damaged > 0 {
            self.tell_damage((self.at.lines + self.damaged).min(to.lines.saturating_sub(1)));
        }
        for piece in pieces(runs, self.at, to) {
            let (l, attempt) = piece.of.unwrap_or((self.events, self.last.0));
            self.tell_lifecycle(l);
            let gone = line::dropped(self.last.1, piece.end.bytes.saturating_sub(self.at.bytes));
            self.at = piece.end;
            self.tell(self.events, attempt, gone);
        }
        self.at = to;
    }

    /// Tells what has so many lifecycle events up to it, and the lines up to `at`.
    fn tell(&mut self, events: u64, attempt: u32, event: NewEvent) {
        self.last = (attempt, event.at);
        let seq = events + self.at.lines;
        if seq > self.after {
            self.found.push(Event { seq, task: self.task.clone(), attempt, event });
        }
    }
}
