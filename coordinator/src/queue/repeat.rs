//! Trying a task again that has ended: a new task that does the same from the same base.

use jiff::Timestamp;
use protocol::{Code, Problem, TaskId};
use sha2::{Digest as _, Sha256};

use super::{
    Queue,
    read::{body, made},
    row::{Approval, Row},
    sql,
    store::StoreError,
    submit::{insert, is_known},
    sum::Made,
};

impl Queue {
    /// Makes the task `id`, which repeats the task `of`; whether it is new. Repeated with the same ids, it changes
    /// nothing.
    ///
    /// # Errors
    /// `unknown_task`, `wrong_state` where it has not ended, `task_id_taken`, `unique_key_taken`, `queue_draining`,
    /// and the store's.
    pub async fn repeat(&self, of: TaskId, id: TaskId, now: Timestamp) -> Result<bool, StoreError> {
        self.store
            .write(move |tx| {
                let digest: [u8; 32] = Sha256::digest(format!("retry of {of}")).into();
                if is_known(tx, &id, &digest)? {
                    return Ok(false);
                }
                let old = tx.row(&of)?;
                if !old.state().is_terminal() {
                    let why =
                        format!("task {of} is {}; it can be tried again when it has ended", old.state());
                    return Err(Problem::new(Code::WrongState, why).with_state(old.state()).into());
                }
                let made = tx.one(sql::MADE, [of.as_str()], |row| made(row, 0))?;
                let work = tx.one(sql::BODY, [old.n], |row| body(row, 0))?;
                let (Some(made), Some(work)) = (made, work) else {
                    return Err(StoreError::Damaged(format!("task {of} has no body")));
                };
                // Its rank follows from its acceptance, moved by its priority.
                let (created_at, head_start) = (now.as_millisecond(), made.created_at - made.rank);
                let made = Made {
                    id: id.clone(),
                    submitted: digest,
                    rank: created_at - head_start,
                    created_at,
                    retry_of: Some(of.clone()),
                    ..made
                };
                let mut row = as_new(&old, &id, now);
                // Its repository may have been registered anew since, with another source.
                let known = (row.queue.as_str(), row.base_commit.as_deref());
                if tx.one(sql::KNOWN_COMMIT, known, |_| Ok(()))?.is_none() {
                    row.base_commit = None;
                }
                insert(tx, row, &made, work, now).map(|_| true)
            })
            .await
    }
}

/// What was let go once needs no other approval; what never was, does.
fn as_new(old: &Row, id: &TaskId, now: Timestamp) -> Row {
    Row {
        n: 0,
        id: id.clone(),
        attempt: 0,
        serial: now.as_millisecond().cast_unsigned(),
        reason: None,
        worker: None,
        started_at: None,
        since: now,
        not_before: None,
        approval: match old.approval {
            Approval::Awaited => Approval::Awaited,
            Approval::Given | Approval::NotAsked => Approval::NotAsked,
        },
        orders: 0,
        events: 1,
        ..old.clone()
    }
}
