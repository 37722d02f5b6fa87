//! What time alone brings about: silent leases end, waiting tasks come due.

use std::{sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;
use protocol::TaskId;

use super::{
    Queue,
    row::Row,
    sql,
    store::StoreError,
    transition::{Command, after},
    tx::{Tx, row},
};

impl Queue {
    /// Ends the leases that are over at `now`, and readies the tasks that are due. How many tasks changed.
    ///
    /// Each step is one guarded update in the writer's transaction: a start, a result or a cancellation that
    /// came first makes it do nothing.
    ///
    /// # Errors
    /// The store's; call it again then.
    pub async fn reap(&self, now: Timestamp) -> Result<usize, StoreError> {
        let overdue = self.live.overdue(now);
        // The clock was set, if at all, while no coordinator ran.
        let first = !self.reaped.load(Ordering::Relaxed);
        let changed = self
            .store
            .write(move |tx| {
                if first {
                    hasten(tx, now)?;
                }
                Ok(end_overdue(tx, &overdue, now)? + ready_due(tx, now)?)
            })
            .await?;
        self.reaped.store(true, Ordering::Relaxed);
        Ok(changed)
    }
}

fn end_overdue(tx: &mut Tx<'_>, overdue: &[(TaskId, Command)], now: Timestamp) -> Result<usize, StoreError> {
    let mut changed = 0;
    for (id, command) in overdue {
        if let Some(row) = step(tx, id.as_str(), command, now)? {
            tracing::info!(task = %row.id, state = %row.state(), ?command, "lease ended");
            changed += 1;
        }
    }
    Ok(changed)
}

/// No pause between attempts, and none after a lease that went back, is longer than this. Where one seems to be, the
/// clock was set back.
const LONGEST_PAUSE: Duration = Duration::from_secs(90);

fn hasten(tx: &mut Tx<'_>, now: Timestamp) -> Result<(), StoreError> {
    let latest = after(now, LONGEST_PAUSE).as_millisecond();
    for id in tx.all(sql::DUE_AFTER, [latest], |row| row.get::<_, String>(0))? {
        step(tx, &id, &Command::Hasten, now)?;
    }
    Ok(())
}

fn ready_due(tx: &mut Tx<'_>, now: Timestamp) -> Result<usize, StoreError> {
    let mut changed = 0;
    for id in tx.all(sql::DUE, [now.as_millisecond()], |row| row.get::<_, String>(0))? {
        changed += usize::from(step(tx, &id, &Command::Due, now)?.is_some());
    }
    Ok(changed)
}

/// One damaged task must not keep the others from their time: it is told of, and passed over.
fn step(tx: &mut Tx<'_>, id: &str, command: &Command, now: Timestamp) -> Result<Option<Row>, StoreError> {
    let task = tx.one(sql::ROW, [id], row).transpose();
    match task.map(|task| tx.apply(&task?, command, now)).transpose() {
        Err(StoreError::Refused(_)) => Ok(None),
        Err(StoreError::Damaged(why)) => {
            tracing::error!(task = id, why, "a task is passed over");
            Ok(None)
        }
        stepped => stepped,
    }
}
