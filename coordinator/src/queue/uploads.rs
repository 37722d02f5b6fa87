//! What the database knows of uploaded artifacts and of virtual keys: work that is still to be done outside it.

use protocol::{Code, Problem, TaskId, keys::KeyUsage, limits, task::Artifact};

use super::{
    Queue,
    finish::settle,
    sql,
    store::StoreError,
    tx::{all, parsed},
};
use crate::tokens::Claim;

impl Queue {
    /// Notes an artifact that lies on disk for this lease.
    ///
    /// # Errors
    /// `too_large` where the task has too many or too much, `lease_lost`, and the store's.
    pub async fn note_upload(&self, id: TaskId, claim: Claim, artifact: Artifact) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                let task = tx.row(&id)?;
                if task.claim() != claim || task.state() != protocol::TaskState::Running {
                    return Err(super::tx::refused(&task, super::transition::Refusal::LeaseLost).into());
                }
                let others = (task.n, task.attempt, &artifact.name);
                let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
                let (count, bytes) = tx.one(sql::UPLOADED, others, read)?.unwrap_or_default();
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                let bytes = bytes.cast_unsigned().saturating_add(artifact.size);
                if count >= limits::TASK_ARTIFACTS || bytes > limits::TASK_ARTIFACT_BYTES {
                    let why = format!(
                        "a task may have {} artifacts of {} bytes in all",
                        limits::TASK_ARTIFACTS,
                        limits::TASK_ARTIFACT_BYTES
                    );
                    return Err(Problem::new(Code::TooLarge, why).into());
                }
                let size = artifact.size.cast_signed();
                let row = (task.n, task.attempt, &artifact.name, size, &artifact.sha256);
                tx.execute(sql::KEEP_UPLOAD, row).map(|_| ())
            })
            .await
    }

    /// Ended tasks whose uploads are not in their final place yet.
    ///
    /// # Errors
    /// The store's.
    pub fn unplaced(&self) -> Result<Vec<TaskId>, StoreError> {
        self.store.read(|connection| all(connection, sql::UPLOADS_OF_ENDED, [], |row| parsed(row, 0)))
    }

    /// An ended task's uploads are in their final place.
    ///
    /// # Errors
    /// The store's.
    pub async fn placed(&self, id: TaskId) -> Result<(), StoreError> {
        self.store.write(move |tx| tx.execute(sql::FORGET_UPLOADS, [id.as_str()]).map(|_| ())).await
    }

    /// Attempts that are over and whose virtual key is not known to be revoked.
    ///
    /// # Errors
    /// The store's.
    pub fn unsettled_keys(&self) -> Result<Vec<(TaskId, u32)>, StoreError> {
        self.store.read(|connection| {
            all(connection, sql::KEYS_OF_ENDED, [], |row| Ok((parsed(row, 0)?, row.get(1)?)))
        })
    }

    /// The key is revoked, and this is what the task's keys have used.
    ///
    /// # Errors
    /// `unknown_task`, and the store's.
    pub async fn settle(&self, id: TaskId, attempt: u32, usage: KeyUsage) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                let task = tx.row(&id)?;
                settle(tx, task.n, attempt, &usage)
            })
            .await
    }
}
