//! What an operation can do inside a transaction, in terms of rows.

use std::time::Duration;

use jiff::Timestamp;
use protocol::{Code, Problem, TaskId, TaskState, WorkerId, lease::OrderKind};
use rusqlite::{Connection, OptionalExtension as _, Params, params, types::Type};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    row::{Approval, End, Row, Stand},
    sql,
    store::StoreError,
    sum::of_text,
    transition::{Change, Command, Refusal, transition},
};

/// A change that is committed: the task as it is now.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The task.
    pub row: Row,
    /// What it was before; `None` for a new task.
    pub from: Option<Row>,
}

/// A transaction that is under way.
pub struct Tx<'a> {
    connection: &'a Connection,
    changes: &'a mut Vec<Committed>,
    guarded: bool,
}

impl<'a> Tx<'a> {
    pub(super) const fn new(connection: &'a Connection, changes: &'a mut Vec<Committed>) -> Self {
        Self { connection, changes, guarded: false }
    }

    /// From here on the operation may be refused after it has written something: it is undone then. An operation that
    /// is refused before it writes needs no guard, which costs two statements.
    pub(super) fn guard(&mut self) -> Result<(), StoreError> {
        self.guarded = true;
        self.execute(sql::SAVEPOINT, []).map(|_| ())
    }

    pub(super) const fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// The first row that a query finds, through `read`.
    pub(super) fn one<T>(
        &self,
        query: &str,
        params: impl Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        one(self.connection, query, params, read)
    }

    /// All rows that a query finds, through `read`.
    pub(super) fn all<T>(
        &self,
        query: &str,
        params: impl Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        all(self.connection, query, params, read)
    }

    /// Runs a statement; how many rows it changed.
    pub(super) fn execute(&self, statement: &str, params: impl Params) -> Result<usize, StoreError> {
        Ok(self.connection.prepare_cached(statement)?.execute(params)?)
    }

    /// The number of the row that was just inserted.
    pub(super) fn inserted(&self) -> i64 {
        self.connection.last_insert_rowid()
    }

    /// A task's row.
    ///
    /// # Errors
    /// `unknown_task`, and the store's.
    pub(super) fn row(&self, id: &TaskId) -> Result<Row, StoreError> {
        self.one(sql::ROW, [id.as_str()], row)?.ok_or_else(|| unknown_task(id).into())
    }

    /// Asks the rules, and writes down what they say: the row and, where the state changes, the event.
    /// The row as it is afterwards.
    ///
    /// # Errors
    /// `lease_lost` and `wrong_state` with the state, and the store's.
    pub(super) fn apply(&mut self, task: &Row, command: &Command, now: Timestamp) -> Result<Row, StoreError> {
        match transition(task, command, now).map_err(|refusal| refused(task, refusal))? {
            Change::Nothing => Ok(task.clone()),
            Change::To(next) => {
                self.step(task, &next)?;
                if next.events > task.events {
                    self.event(&next, now)?;
                }
                if next.orders > task.orders {
                    self.keep_order(&next, command, now)?;
                }
                self.changes.push(Committed { row: (*next).clone(), from: Some(task.clone()) });
                Ok(*next)
            }
        }
    }

    /// Tells the first event of a task that was just inserted.
    pub(super) fn begin(&mut self, task: Row, now: Timestamp) -> Result<(), StoreError> {
        self.event(&task, now)?;
        self.changes.push(Committed { row: task, from: None });
        Ok(())
    }

    fn step(&self, from: &Row, to: &Row) -> Result<(), StoreError> {
        let columns = Columns::of(&to.stand);
        let changed = self.execute(
            sql::STEP,
            params![
                to.state().as_str(),
                &to.reason,
                to.attempt,
                to.serial.cast_signed(),
                to.worker.as_ref().map(WorkerId::as_str),
                &to.base_commit,
                to.started_at.map(Timestamp::as_millisecond),
                columns.request,
                columns.due.map(Timestamp::as_millisecond),
                columns.cancelling,
                columns.finished_at.map(Timestamp::as_millisecond),
                to.since.as_millisecond(),
                to.approval.as_column(),
                to.orders.cast_signed(),
                to.events.cast_signed(),
                to.sum(),
                from.n,
                from.state().as_str(),
                from.attempt,
                from.serial.cast_signed(),
                from.orders.cast_signed(),
                from.events.cast_signed(),
            ],
        )?;
        if changed == 1 {
            return Ok(());
        }
        Err(StoreError::Damaged(format!("task {} is not as it was read a moment ago", from.id)))
    }

    fn keep_order(&self, task: &Row, command: &Command, now: Timestamp) -> Result<(), StoreError> {
        let (message, order) = match command {
            Command::Cancel { grace_s } => (None, OrderKind::Cancel { grace_s: *grace_s }),
            Command::Message { text, id } => (*id, OrderKind::Message { text: text.clone() }),
            other => return Err(StoreError::Storage(format!("{other:?} is no order"))),
        };
        let body = serde_json::to_string(&order).map_err(|error| StoreError::Storage(error.to_string()))?;
        let message = message.map(|id| id.to_string());
        let sum = of_text(&body);
        let row = (task.n, task.orders.cast_signed(), now.as_millisecond(), message, body, sum);
        self.execute(sql::KEEP_ORDER, row).map(|_| ())
    }

    fn event(&self, task: &Row, now: Timestamp) -> Result<(), StoreError> {
        let event = EventRow {
            task: task.n,
            n: task.events.cast_signed(),
            at: now.as_millisecond(),
            attempt: task.attempt,
            state: task.state().as_str().to_owned(),
            reason: task.reason.clone(),
        };
        let sum = event.sum();
        let EventRow { task, n: place, at, attempt, state, reason } = event;
        self.execute(sql::EVENT, (task, place, at, attempt, state, reason, sum)).map(|_| ())
    }
}

/// The first row that a query finds.
pub(super) fn one<T>(
    connection: &Connection,
    query: &str,
    params: impl Params,
    read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    Ok(connection.prepare_cached(query)?.query_row(params, read).optional()?)
}

/// All rows that a query finds.
pub(super) fn all<T>(
    connection: &Connection,
    query: &str,
    params: impl Params,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(query)?;
    let rows = statement.query_map(params, read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The problem of a task that is not there.
pub(crate) fn unknown_task(id: &TaskId) -> Problem {
    Problem::new(Code::UnknownTask, format!("there is no task {id}; `GET /tasks` lists those that there are"))
}

/// The problem of a command that the rules refuse.
pub(super) fn refused(task: &Row, refusal: Refusal) -> Problem {
    let state = task.state();
    match refusal {
        Refusal::LeaseLost => Problem::new(
            Code::LeaseLost,
            format!("task {} is not this lease's any more (it is {state}): stop, and lease again", task.id),
        ),
        Refusal::WrongState => {
            Problem::new(Code::WrongState, format!("task {} is {state}, which does not allow this", task.id))
        }
    }
    .with_state(state)
}

/// The columns that hold what belongs to one state alone.
pub(super) struct Columns {
    pub(super) request: Option<String>,
    pub(super) due: Option<Timestamp>,
    pub(super) cancelling: bool,
    pub(super) finished_at: Option<Timestamp>,
}

impl Columns {
    pub(super) fn of(stand: &Stand) -> Self {
        let none = Self { request: None, due: None, cancelling: false, finished_at: None };
        match *stand {
            Stand::Held => none,
            Stand::Scheduled { due } => Self { due: Some(due), ..none },
            Stand::Ready { not_before } => Self { due: not_before, ..none },
            Stand::Leased { request, start_before } => {
                Self { request: Some(request.to_string()), due: Some(start_before), ..none }
            }
            Stand::Running { request, end_before, cancelling } => {
                Self { request: Some(request.to_string()), due: Some(end_before), cancelling, ..none }
            }
            Stand::Ended { at, .. } => Self { finished_at: Some(at), ..none },
        }
    }

    fn stand(&self, state: TaskState) -> Option<Stand> {
        let request = || self.request.as_deref().and_then(|text| Uuid::parse_str(text).ok());
        let ended = |how| self.finished_at.map(|at| Stand::Ended { how, at });
        match state {
            TaskState::Held => Some(Stand::Held),
            TaskState::Scheduled => Some(Stand::Scheduled { due: self.due? }),
            TaskState::Ready => Some(Stand::Ready { not_before: self.due }),
            TaskState::Leased => Some(Stand::Leased { request: request()?, start_before: self.due? }),
            TaskState::Running => Some(Stand::Running {
                request: request()?,
                end_before: self.due?,
                cancelling: self.cancelling,
            }),
            TaskState::Succeeded => ended(End::Succeeded),
            TaskState::Failed => ended(End::Failed),
            TaskState::TimedOut => ended(End::TimedOut),
            TaskState::Cancelled => ended(End::Cancelled),
            TaskState::Lost => ended(End::Lost),
        }
    }
}

/// A lifecycle event, as it is written.
pub(super) struct EventRow {
    pub(super) task: i64,
    pub(super) n: i64,
    pub(super) at: i64,
    pub(super) attempt: u32,
    pub(super) state: String,
    pub(super) reason: Option<String>,
}

/// Reads the columns of `sql::ROW`.
pub(super) fn row(columns: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let row = unsealed_row(columns)?;
    sealed(columns, 22, row.sum())?;
    Ok(row)
}

/// Holds what was read against the checksum in a column.
pub(super) fn sealed(columns: &rusqlite::Row<'_>, at: usize, sum: i64) -> rusqlite::Result<()> {
    if columns.get::<_, i64>(at)? == sum {
        return Ok(());
    }
    Err(damaged(at, "what is stored is not what was written: its checksum is another"))
}

/// The same without its checksum, for rows that have none yet.
pub(super) fn unsealed_row(columns: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let state: TaskState = text_value(columns, 8)?;
    let of_state = Columns {
        request: columns.get(13)?,
        due: time(columns, 14)?,
        cancelling: columns.get(15)?,
        finished_at: time(columns, 16)?,
    };
    Ok(Row {
        n: columns.get(0)?,
        id: parsed(columns, 1)?,
        queue: parsed(columns, 2)?,
        agent: columns.get(3)?,
        max_attempts: columns.get(4)?,
        timeout: Duration::from_secs(columns.get::<_, u32>(5)?.into()),
        attempt: columns.get(6)?,
        serial: columns.get::<_, i64>(7)?.cast_unsigned(),
        stand: of_state.stand(state).ok_or_else(|| damaged(8, "a state without what belongs to it"))?,
        reason: columns.get(9)?,
        worker: columns.get::<_, Option<String>>(10)?.map(|_| parsed(columns, 10)).transpose()?,
        base_commit: columns.get(11)?,
        started_at: time(columns, 12)?,
        since: time(columns, 17)?.unwrap_or(Timestamp::UNIX_EPOCH),
        not_before: time(columns, 18)?,
        approval: approval(columns, 19)?,
        orders: columns.get::<_, i64>(20)?.cast_unsigned(),
        events: columns.get::<_, i64>(21)?.cast_unsigned(),
    })
}

fn approval(columns: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Approval> {
    match columns.get_ref(at)?.as_str_or_null()? {
        None => Ok(Approval::NotAsked),
        Some("awaited") => Ok(Approval::Awaited),
        Some("given") => Ok(Approval::Given),
        Some(other) => Err(damaged(at, &format!("{other:?} is no approval"))),
    }
}

/// A name in a column.
pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    columns: &rusqlite::Row<'_>,
    at: usize,
) -> rusqlite::Result<T> {
    let text = columns.get_ref(at)?.as_str()?;
    text.parse().map_err(|error: T::Err| damaged(at, &error.to_string()))
}

/// A word of the protocol in a column.
pub(super) fn text_value<T: DeserializeOwned>(columns: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<T> {
    let text: String = columns.get(at)?;
    serde_json::from_value(text.into()).map_err(|error| damaged(at, &error.to_string()))
}

/// A time in a column.
pub(super) fn time(columns: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<Timestamp>> {
    let milliseconds: Option<i64> = columns.get(at)?;
    milliseconds
        .map(|ms| Timestamp::from_millisecond(ms).map_err(|error| damaged(at, &error.to_string())))
        .transpose()
}

/// The error of a column that does not hold what this program writes.
pub(super) fn damaged(at: usize, why: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Text, why.to_owned().into())
}
