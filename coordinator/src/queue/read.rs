//! What is committed, as the owner sees it: beside the writer, never in its way.

use std::time::Duration;

use jiff::Timestamp;
use protocol::{
    Code, Event, EventBody, NewEvent, Problem, QueueName, Task, TaskId, Usd, limits,
    task::{Base, TaskFilter, TaskPage, Work},
};
use rusqlite::Connection;

use super::{
    Queue,
    retention::Kind,
    row::Row,
    sql,
    store::StoreError,
    tx::{all, damaged, json, one, parsed, row, text_value, time},
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
        self.store.read(|connection| {
            let Some((n, mut task)) = one(connection, sql::TASK, [id.as_str()], task)? else {
                return Ok(None);
            };
            let report = (n, task.attempt);
            task.result = one(connection, sql::REPORT, report, |row| json(row, 0))?;
            let swept =
                one(connection, sql::SWEPT, [Kind::Artifacts.as_str()], |row| time(row, 0))?.flatten();
            let kept = task.finished_at.is_none_or(|end| swept.is_none_or(|upto| end > upto));
            let artifacts = task.result.as_ref().filter(|_| kept).map(|report| report.artifacts.clone());
            task.artifacts = artifacts.unwrap_or_default();
            Ok(Some(task))
        })
    }

    /// What an agent task may spend.
    ///
    /// # Errors
    /// The store's.
    pub fn budget(&self, id: &TaskId) -> Result<Usd, StoreError> {
        let read = |row: &rusqlite::Row<'_>| row.get::<_, Option<i64>>(0);
        let budget = self.store.read(|connection| one(connection, sql::BUDGET, [id.as_str()], read))?;
        Ok(budget.flatten().map_or(Usd::ZERO, |nanos| Usd::from_nanos(nanos.cast_unsigned())))
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
            Ok(Event {
                seq: row.get::<_, i64>(0)?.cast_unsigned(),
                task: task.clone(),
                attempt: row.get(2)?,
                event: NewEvent {
                    at: time(row, 1)?.unwrap_or_default(),
                    body: EventBody::State { state: text_value(row, 3)?, reason: row.get(4)? },
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

/// Every row that a query finds, for other files of this folder.
pub(super) fn rows(
    connection: &Connection,
    query: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<Row>, StoreError> {
    all(connection, query, params, row)
}

fn task(columns: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, Task)> {
    let optional_name = |at| columns.get::<_, Option<String>>(at);
    let task = Task {
        id: parsed(columns, 1)?,
        queue: parsed(columns, 2)?,
        state: text_value(columns, 3)?,
        reason: columns.get(4)?,
        work: json::<Work>(columns, 5)?,
        base: Base { requested: columns.get(6)?, commit: columns.get(7)? },
        branch: columns.get(8)?,
        priority: text_value(columns, 9)?,
        attempt: columns.get(10)?,
        max_attempts: columns.get(11)?,
        timeout_s: Duration::from_secs(columns.get::<_, u32>(12)?.into()).as_secs(),
        budget_usd: columns.get::<_, Option<i64>>(13)?.map(|nanos| Usd::from_nanos(nanos.cast_unsigned())),
        principal: columns.get(14)?,
        retry_of: optional_name(15)?.map(|_| parsed(columns, 15)).transpose()?,
        worker: optional_name(16)?.map(|_| parsed(columns, 16)).transpose()?,
        created_at: time(columns, 17)?.unwrap_or(Timestamp::UNIX_EPOCH),
        since: time(columns, 21)?.unwrap_or(Timestamp::UNIX_EPOCH),
        not_before: time(columns, 22)?,
        unique_key: columns.get(23)?,
        started_at: time(columns, 18)?,
        finished_at: time(columns, 19)?,
        result: None,
        usage: optional_name(20)?
            .map(|text| serde_json::from_str(&text).map_err(|error| damaged(20, &error.to_string())))
            .transpose()?,
        artifacts: Vec::new(),
    };
    Ok((columns.get(0)?, task))
}
