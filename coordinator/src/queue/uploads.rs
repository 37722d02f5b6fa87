//! What the database knows of uploaded artifacts and of virtual keys: work that is still to be done outside it.

use protocol::{Code, Problem, TaskId, keys::KeyUsage, limits, task::Artifact};

use super::{
    Queue,
    finish::settle,
    sql,
    store::StoreError,
    tx::{all, one, parsed, unknown_task},
};
use crate::{crash_point::crash_point, tokens::Claim};

impl Queue {
    /// How many bytes the task's latest attempt may upload under this name.
    ///
    /// # Errors
    /// `too_large` where it has too many artifacts, `unknown_task`, and the store's.
    pub fn upload_room(&self, id: &TaskId, name: &str) -> Result<u64, StoreError> {
        let task = self.row(id)?.ok_or_else(|| unknown_task(id))?;
        room(
            self.store
                .read(|connection| one(connection, sql::UPLOADED, (task.n, task.attempt, name), sizes))?,
        )
    }

    /// Notes an artifact of this lease, and lets it come into its place. Refused, it does neither.
    ///
    /// # Errors
    /// `too_large` where the task has too many or too much, `lease_lost`, what `settle` says, and the store's.
    pub async fn note_upload(
        &self,
        id: TaskId,
        claim: Claim,
        artifact: Artifact,
        settle: impl FnOnce() -> Result<(), Problem> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                let task = tx.row(&id)?;
                if task.claim() != claim || task.state() != protocol::TaskState::Running {
                    return Err(super::tx::refused(&task, super::transition::Refusal::LeaseLost).into());
                }
                // Others may have come in since there was room.
                let others = (task.n, task.attempt, &artifact.name);
                if artifact.size > room(tx.one(sql::UPLOADED, others, sizes)?)? {
                    return Err(no_room().into());
                }
                tx.guard()?;
                let size = artifact.size.cast_signed();
                let row = (task.n, task.attempt, &artifact.name, size, &artifact.sha256);
                tx.execute(sql::KEEP_UPLOAD, row)?;
                settle()?;
                crash_point("artifact.settled");
                Ok(())
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

/// Reads the columns of `sql::UPLOADED`.
fn sizes(row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, i64)> {
    Ok((row.get(0)?, row.get(1)?))
}

/// What a task may have beside so many artifacts of so many bytes.
fn room(others: Option<(i64, i64)>) -> Result<u64, StoreError> {
    let (count, bytes) = others.unwrap_or_default();
    if usize::try_from(count).unwrap_or(usize::MAX) >= limits::TASK_ARTIFACTS {
        return Err(no_room().into());
    }
    Ok(limits::TASK_ARTIFACT_BYTES.saturating_sub(bytes.cast_unsigned()))
}

fn no_room() -> Problem {
    let why = format!(
        "a task may have {} artifacts of {} bytes in all",
        limits::TASK_ARTIFACTS,
        limits::TASK_ARTIFACT_BYTES
    );
    Problem::new(Code::TooLarge, why)
}
