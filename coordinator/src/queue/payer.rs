//! Who pays for an agent task: the first task of a chain of retries.

use jiff::Timestamp;
use protocol::{TaskId, Usd, keys::FirstTask};

use super::{Queue, read::made, sql, store::StoreError, tx::one};

/// Retries of retries that are followed: more than anybody makes, and an end where used-again ids make a circle.
const CHAIN: usize = 1_000;

/// An agent task's money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payer {
    /// What it may spend with all its attempts and retries.
    pub budget: Usd,
    /// When it was made: its id may have been another task's.
    pub born: Option<Timestamp>,
    /// Of a retry: the first of the chain that is still known.
    pub first: Option<FirstTask>,
}

impl Queue {
    /// Who pays for a task; nothing to spend for one that is not known.
    ///
    /// # Errors
    /// The store's.
    pub fn payer(&self, id: &TaskId) -> Result<Payer, StoreError> {
        self.store.read(|connection| {
            let made = |id: &TaskId| one(connection, sql::MADE, [id.as_str()], |row| made(row, 0));
            let Some(task) = made(id)? else {
                return Ok(Payer { budget: Usd::ZERO, born: None, first: None });
            };
            let born = |created_at| Timestamp::from_millisecond(created_at).ok();
            let (mut first, mut of, mut created_at) = (None, task.retry_of, task.created_at);
            for _ in 0..CHAIN {
                let Some(older) = of.as_ref().map(made).transpose()?.flatten() else { break };
                if older.created_at > created_at {
                    // Another task, made since under the id of the one that was tried again.
                    break;
                }
                created_at = older.created_at;
                first = Some(FirstTask { task: older.id, born: born(created_at) });
                of = older.retry_of;
            }
            Ok(Payer { budget: task.budget.unwrap_or(Usd::ZERO), born: born(task.created_at), first })
        })
    }
}
