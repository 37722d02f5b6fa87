//! What is committed, as the owner sees it: beside the writer, never in its way.

use jiff::Timestamp;
use protocol::{
    Code, Event, EventBody, NewEvent, Problem, QueueName, Task, TaskId, Usd,
    keys::KeyUsage,
    limits,
    report::Report,
    task::{Base, TaskFilter, TaskPage, Work},
};
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use super::{
    Queue,
    row::{Row, Stand},
    sql,
    store::StoreError,
    submit::branch_of,
    sum::{Made, of_text},
    tx::{EventRow, all, damaged, one, parsed, row, sealed, text_value, time},
};

/// Rows in a page that names no limit.
const PAGE: u32 = 50;

impl Queue {
    /// A task's row.
    ///
    /// # Errors
    /// The store's.
    pub fn row(&self, id: &TaskId) -> Result<Option<Row>, StoreError> {
        self.store.read(|connection| one(connection, sql::ROW, [id.as_str()], row))
    }

    /// A task with all that is known of it.
    ///
    /// # Errors
    /// The store's.
    pub fn task(&self, id: &TaskId) -> Result<Option<Task>, StoreError> {
        self.store.read(|connection| whole_task(connection, id))
    }

    /// A page of tasks, the newest first.
    ///
    /// # Errors
    /// `invalid` for a `before` that no page gave, and the store's.
    pub fn page(&self, filter: &TaskFilter) -> Result<TaskPage, StoreError> {
        let before = match filter.before.as_deref().map(str::parse::<i64>) {
            None => i64::MAX,
            Some(Ok(before)) => before,
            Some(Err(_)) => {
                let why = "before: is not what a page gave as `next`";
                return Err(Problem::new(Code::Invalid, why).into());
            }
        };
        let limit = filter.limit.unwrap_or(PAGE).clamp(1, limits::PAGE_ROWS);
        let mut query = sql::PAGE.to_owned();
        if filter.queue.is_some() {
            query.push_str(sql::PAGE_QUEUE);
        }
        if let Some(state) = filter.state {
            query.push_str(" AND state = '");
            query.push_str(state.as_str());
            query.push('\'');
        }
        query.push_str(sql::PAGE_END);
        // The parameter of a condition that is not there is NULL, and harmless.
        let queue = filter.queue.as_ref().map(QueueName::as_str);
        let found =
            self.store.read(|connection| all(connection, &query, (before, queue, limit + 1), task))?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let next =
            (found.len() > wanted).then(|| found.get(wanted - 1)).flatten().map(|(n, _)| n.to_string());
        let tasks = found.into_iter().take(wanted).map(|(_, task)| Task { usage: None, ..task }).collect();
        Ok(TaskPage { tasks, next })
    }

    /// Lifecycle events of a task from after `after` up to `upto`; their place is among these alone.
    ///
    /// # Errors
    /// The store's.
    pub fn lifecycle(&self, task: &TaskId, n: i64, after: u64, upto: u64) -> Result<Vec<Event>, StoreError> {
        let read = |row: &rusqlite::Row<'_>| {
            let stored = EventRow {
                n: row.get(0)?,
                at: row.get(1)?,
                attempt: row.get(2)?,
                state: row.get(3)?,
                reason: row.get(4)?,
                task: row.get(5)?,
            };
            sealed(row, 6, stored.sum())?;
            Ok(Event {
                seq: stored.n.cast_unsigned(),
                task: task.clone(),
                attempt: stored.attempt,
                event: NewEvent {
                    at: time(row, 1)?.unwrap_or_default(),
                    body: EventBody::State { state: text_value(row, 3)?, reason: stored.reason },
                    raw: None,
                },
            })
        };
        let range = (n, after.cast_signed(), upto.cast_signed());
        self.store.read(|connection| all(connection, sql::EVENTS, range, read))
    }

    /// A task's row with the count of its lifecycle events, both of one moment.
    ///
    /// # Errors
    /// The store's.
    pub fn row_and_events(&self, id: &TaskId) -> Result<Option<(Row, u64)>, StoreError> {
        self.store.read(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let Some(row) = one(&snapshot, sql::ROW, [id.as_str()], row)? else { return Ok(None) };
            let events = one(&snapshot, sql::EVENT_COUNT, [row.n], |row| row.get::<_, i64>(0))?;
            Ok(Some((row, events.unwrap_or_default().cast_unsigned())))
        })
    }
}

fn whole_task(connection: &Connection, id: &TaskId) -> Result<Option<Task>, StoreError> {
    let Some((n, mut task)) = one(connection, sql::TASK, [id.as_str()], task)? else {
        return Ok(None);
    };
    if task.attempt == 0 {
        return Ok(Some(task));
    }
    task.result = one(connection, sql::REPORT, (n, task.attempt), read_report)?;
    task.artifacts = task.result.as_ref().map_or_else(Vec::new, |report| report.artifacts.clone());
    Ok(Some(task))
}

fn read_report(columns: &rusqlite::Row<'_>) -> rusqlite::Result<Report> {
    let (body, hash): (String, [u8; 32]) = (columns.get(0)?, columns.get(1)?);
    if <[u8; 32]>::from(Sha256::digest(body.as_bytes())) != hash {
        return Err(damaged(0, "a report is not what was written: its hash is another"));
    }
    serde_json::from_str(&body).map_err(|error| damaged(0, &error.to_string()))
}

/// Every row that a query finds, for other files of this folder. One that is damaged is told of and passed over: it
/// must not keep the others from their work.
pub(super) fn rows(
    connection: &Connection,
    query: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<Row>, StoreError> {
    let found = all(connection, query, params, |columns| Ok(row(columns)))?;
    let good = found.into_iter().filter_map(|row| {
        row.inspect_err(|error| tracing::error!(%error, "a damaged task is passed over")).ok()
    });
    Ok(good.collect())
}

/// Reads the columns of `sql::TASK`.
fn task(columns: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, Task)> {
    let (row, made) = (row(columns)?, made(columns, 23)?);
    let work = body(columns, 34)?;
    let work = serde_json::from_str(&work).map_err(|error| damaged(34, &error.to_string()))?;
    let n = row.n;
    let mut task = as_task(row, made, work).map_err(|error| damaged(1, &error.to_string()))?;
    task.usage = usage(columns, 36)?;
    Ok((n, task))
}

/// A task as its owner sees it, before it has used or brought back anything.
pub(super) fn as_task(row: Row, made: Made, work: Work) -> Result<Task, StoreError> {
    let finished_at = match row.stand {
        Stand::Ended { at, .. } => Some(at),
        _ => None,
    };
    Ok(Task {
        branch: branch_of(&row.id)?,
        state: row.state(),
        id: row.id,
        queue: row.queue,
        reason: row.reason,
        work,
        base: Base { requested: made.base_requested, commit: row.base_commit },
        priority: serde_json::from_value(made.priority.into())
            .map_err(|error| StoreError::Damaged(error.to_string()))?,
        attempt: row.attempt,
        max_attempts: row.max_attempts,
        timeout_s: row.timeout.as_secs(),
        budget_usd: made.budget,
        not_before: row.not_before,
        unique_key: made.unique_key,
        principal: made.principal,
        retry_of: made.retry_of,
        worker: row.worker,
        created_at: Timestamp::from_millisecond(made.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        since: row.since,
        started_at: row.started_at,
        finished_at,
        result: None,
        usage: None,
        artifacts: Vec::new(),
    })
}

/// Reads the columns of what never changes, from `at` on.
pub(super) fn made(columns: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Made> {
    let made = unsealed_made(columns, at)?;
    sealed(columns, at + 10, made.sum())?;
    Ok(made)
}

/// The same without its checksum, for rows that have none yet.
pub(super) fn unsealed_made(columns: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Made> {
    let budget: Option<i64> = columns.get(at + 6)?;
    let retry_of: Option<String> = columns.get(at + 9)?;
    Ok(Made {
        id: parsed(columns, at)?,
        submitted: columns.get(at + 1)?,
        principal: columns.get(at + 2)?,
        base_requested: columns.get(at + 3)?,
        priority: columns.get(at + 4)?,
        rank: columns.get(at + 5)?,
        budget: budget.map(|nanos| Usd::from_nanos(nanos.cast_unsigned())),
        created_at: columns.get(at + 7)?,
        unique_key: columns.get(at + 8)?,
        retry_of: retry_of.map(|_| parsed(columns, at + 9)).transpose()?,
    })
}

/// Reads a task's work, as JSON, and its checksum.
pub(super) fn body(columns: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<String> {
    let work: String = columns.get(at)?;
    sealed(columns, at + 1, of_text(&work))?;
    Ok(work)
}

/// Reads what a task has used, and its checksum.
pub(super) fn usage(columns: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<KeyUsage>> {
    let Some(text) = columns.get::<_, Option<String>>(at)? else { return Ok(None) };
    sealed(columns, at + 1, of_text(&text))?;
    serde_json::from_str(&text).map(Some).map_err(|error| damaged(at, &error.to_string()))
}
