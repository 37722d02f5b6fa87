//! What of the past is not needed any more.

use jiff::Timestamp;
use protocol::TaskId;

use super::{
    Queue, sql,
    store::StoreError,
    tx::{all, one, parsed, time},
};

/// Files of ended tasks that may go before the tasks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `output/<task>`
    Output,
    /// `artifacts/<task>/`
    Artifacts,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Artifacts => "artifacts",
        }
    }
}

/// Where a reading of ended tasks goes on.
pub type Cursor = (i64, i64);

impl Queue {
    /// Tasks that ended up to `before` and whose files of this kind may still be there, from the cursor on; a few
    /// hundred at most. A task that another waits to start from is not among them.
    ///
    /// # Errors
    /// The store's.
    pub fn unswept(
        &self,
        kind: Kind,
        before: Timestamp,
        from: Option<Cursor>,
    ) -> Result<Vec<(Cursor, TaskId)>, StoreError> {
        let from = match from {
            Some(cursor) => cursor,
            None => (self.swept(kind)?.map_or(i64::MIN, Timestamp::as_millisecond), i64::MAX),
        };
        let range = (from.0, from.1, before.as_millisecond());
        self.store.read(|connection| {
            all(connection, sql::ENDED_BETWEEN, range, |row| {
                Ok(((row.get(0)?, row.get(1)?), parsed(row, 2)?))
            })
        })
    }

    /// Up to when the files of this kind are removed.
    ///
    /// # Errors
    /// The store's.
    pub fn swept(&self, kind: Kind) -> Result<Option<Timestamp>, StoreError> {
        let found =
            self.store.read(|connection| one(connection, sql::SWEPT, [kind.as_str()], |row| time(row, 0)))?;
        Ok(found.flatten())
    }

    /// The files of this kind of all tasks that ended up to then are removed.
    ///
    /// # Errors
    /// The store's.
    pub async fn set_swept(&self, kind: Kind, upto: Timestamp) -> Result<(), StoreError> {
        let row = (kind.as_str(), upto.as_millisecond());
        self.store.write(move |tx| tx.execute(sql::SET_SWEPT, row).map(|_| ())).await
    }

    /// Tasks that ended up to `before`, of which nothing is left to be done; a few hundred at most.
    ///
    /// # Errors
    /// The store's.
    pub fn forgettable(&self, before: Timestamp) -> Result<Vec<TaskId>, StoreError> {
        let before = [before.as_millisecond()];
        self.store.read(|connection| all(connection, sql::FORGETTABLE, before, |row| parsed(row, 0)))
    }

    /// Forgets ended tasks. Their files must be gone.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget(&self, tasks: Vec<TaskId>) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                for task in &tasks {
                    let n = tx.one(sql::ENDED, [task.as_str()], |row| row.get::<_, i64>(0))?;
                    let Some(n) = n else { continue };
                    for statement in sql::FORGET {
                        tx.execute(statement, [n])?;
                    }
                }
                Ok(())
            })
            .await
    }

    /// Forgets workers that ended up to `before`.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_workers(&self, before: Timestamp) -> Result<(), StoreError> {
        let before = [before.as_millisecond()];
        self.store.write(move |tx| tx.execute(sql::FORGET_WORKERS, before).map(|_| ())).await
    }
}
