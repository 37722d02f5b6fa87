//! Checksums of rows: a bit that flipped on the disk is told, and never served. SQLite keeps none of its own.

use protocol::{TaskId, Usd};

use super::{
    row::{Approval, Row},
    tx::{Columns, EventRow},
};

/// A checksum that is being made, a field at a time.
pub(super) struct Sum(crc32fast::Hasher);

impl Sum {
    pub(super) fn new() -> Self {
        Self(crc32fast::Hasher::new())
    }

    /// With its length, so that no two lists of fields look the same.
    pub(super) fn bytes(mut self, field: &[u8]) -> Self {
        self.0.update(&field.len().to_le_bytes());
        self.0.update(field);
        self
    }

    pub(super) fn text(self, field: Option<&str>) -> Self {
        match field {
            Some(text) => self.number(1).bytes(text.as_bytes()),
            None => self.number(0),
        }
    }

    pub(super) fn number(mut self, field: i64) -> Self {
        self.0.update(&field.to_le_bytes());
        self
    }

    pub(super) fn optional(self, field: Option<i64>) -> Self {
        match field {
            Some(number) => self.number(1).number(number),
            None => self.number(0),
        }
    }

    pub(super) fn finish(self) -> i64 {
        self.0.finalize().into()
    }
}

/// The checksum of one text.
pub(super) fn of_text(text: &str) -> i64 {
    Sum::new().bytes(text.as_bytes()).finish()
}

impl Row {
    /// Of all that the rules decide by.
    pub(super) fn sum(&self) -> i64 {
        let columns = Columns::of(&self.stand);
        let milliseconds = |time: Option<jiff::Timestamp>| time.map(jiff::Timestamp::as_millisecond);
        Sum::new()
            .bytes(self.id.as_str().as_bytes())
            .bytes(self.queue.as_str().as_bytes())
            .number(self.agent.into())
            .number(self.max_attempts.into())
            .number(self.timeout.as_secs().cast_signed())
            .number(self.attempt.into())
            .number(self.serial.cast_signed())
            .bytes(self.state().as_str().as_bytes())
            .text(self.reason.as_deref())
            .text(self.worker.as_ref().map(protocol::WorkerId::as_str))
            .text(self.base_commit.as_deref())
            .optional(milliseconds(self.started_at))
            .text(columns.request.as_deref())
            .optional(milliseconds(columns.due))
            .number(columns.cancelling.into())
            .optional(milliseconds(columns.finished_at))
            .number(self.since.as_millisecond())
            .optional(milliseconds(self.not_before))
            .text(Approval::as_column(self.approval))
            .number(self.orders.cast_signed())
            .number(self.events.cast_signed())
            .finish()
    }
}

impl EventRow {
    pub(super) fn sum(&self) -> i64 {
        Sum::new()
            .number(self.task)
            .number(self.n)
            .number(self.at)
            .number(self.attempt.into())
            .bytes(self.state.as_bytes())
            .text(self.reason.as_deref())
            .finish()
    }
}

/// What is written when a task is taken in, and never again.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) id: TaskId,
    /// SHA-256 of what was sent.
    pub(super) submitted: [u8; 32],
    pub(super) principal: String,
    pub(super) base_requested: Option<String>,
    /// The word of the protocol.
    pub(super) priority: String,
    pub(super) rank: i64,
    pub(super) budget: Option<Usd>,
    /// Milliseconds since 1970.
    pub(super) created_at: i64,
    pub(super) unique_key: Option<String>,
    pub(super) retry_of: Option<TaskId>,
}

impl Made {
    pub(super) fn sum(&self) -> i64 {
        Sum::new()
            .bytes(self.id.as_str().as_bytes())
            .bytes(&self.submitted)
            .bytes(self.principal.as_bytes())
            .text(self.base_requested.as_deref())
            .bytes(self.priority.as_bytes())
            .number(self.rank)
            .optional(self.budget.map(|sum| sum.nanos().cast_signed()))
            .number(self.created_at)
            .text(self.unique_key.as_deref())
            .text(self.retry_of.as_ref().map(TaskId::as_str))
            .finish()
    }
}
