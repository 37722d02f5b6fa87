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
                insert(tx, as_new(&old, &id, now), &made, work, now).map(|_| ())
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
        serial: now.as_millisecond().cast_unsigned(),
        reason: None,
        worker: None,
        started_at: None,
        since: now,
        not_before: None,
        approval: Approval::NotAsked,
        orders: 0,
        events: 1,
        ..old.clone()
    }
}
