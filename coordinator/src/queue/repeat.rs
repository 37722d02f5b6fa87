//! Trying a task again that has ended: a new task that does the same from the same base.

use jiff::Timestamp;
use protocol::{Code, Problem, TaskId, Usd};
use sha2::{Digest as _, Sha256};

use super::{
    Queue,
    row::{Approval, Row},
    sql,
    store::StoreError,
    submit::{Fresh, insert, is_known},
    tx::text_value,
};

impl Queue {
    /// Makes the task `id`, which repeats the task `of`. Repeated with the same ids, it changes nothing.
    ///
    /// # Errors
    /// `unknown_task`, `wrong_state` where it has not ended, `task_id_taken`, `unique_key_taken`, `queue_draining`,
    /// and the store's.
    pub async fn repeat(&self, of: TaskId, id: TaskId, now: Timestamp) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                let digest: [u8; 32] = Sha256::digest(format!("retry of {of}")).into();
                if is_known(tx, &id, &digest)? {
                    return Ok(());
                }
                let old = tx.row(&of)?;
                if !old.state().is_terminal() {
                    let why =
                        format!("task {of} is {}; it can be tried again when it has ended", old.state());
                    return Err(Problem::new(Code::WrongState, why).with_state(old.state()).into());
                }
                let read = |row: &rusqlite::Row<'_>| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, Option<String>>(1)?,
                        text_value(row, 2)?,
                        row.get::<_, Option<i64>>(3)?,
                        row.get::<_, Option<String>>(4)?,
                    ))
                };
                let body = tx.one(sql::TO_REPEAT, [old.n], read)?;
                let (work, base, priority, budget, unique_key) =
                    body.ok_or_else(|| StoreError::Storage(format!("task {of} has no body")))?;
                let fresh = Fresh {
                    id: &id,
                    digest: &digest,
                    work,
                    base_requested: base.as_deref(),
                    priority,
                    budget: budget.map(|nanos| Usd::from_nanos(nanos.cast_unsigned())),
                    unique_key: unique_key.as_deref(),
                    retry_of: Some(&of),
                    row: as_new(&old, &id, now),
                };
                insert(tx, fresh, now)
            })
            .await
    }
}

/// Approved once, it was approved: who tries it again is its owner too.
fn as_new(old: &Row, id: &TaskId, now: Timestamp) -> Row {
    Row {
        n: 0,
        id: id.clone(),
        attempt: 0,
        serial: 0,
        reason: None,
        worker: None,
        started_at: None,
        since: now,
        not_before: None,
        approval: Approval::NotAsked,
        orders: 0,
        ..old.clone()
    }
}
