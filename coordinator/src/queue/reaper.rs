//! What time alone brings about: silent leases end, waiting tasks come due.

use jiff::Timestamp;
use protocol::TaskId;

use super::{
    Queue, sql,
    store::StoreError,
    transition::Command,
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
        self.store.write(move |tx| Ok(end_overdue(tx, &overdue, now)? + ready_due(tx, now)?)).await
    }
}

fn end_overdue(tx: &mut Tx<'_>, overdue: &[(TaskId, Command)], now: Timestamp) -> Result<usize, StoreError> {
    let mut changed = 0;
    for (task, command) in overdue {
        let task = tx.row(task)?;
        match tx.apply(&task, command, now) {
            Ok(row) => {
                tracing::info!(task = %row.id, attempt = task.attempt, state = %row.state(), ?command, "lease ended");
                changed += 1;
            }
            Err(StoreError::Refused(_)) => {}
            // One damaged task must not keep the others from their time.
            Err(StoreError::Damaged(why)) => tracing::error!(task = %task.id, why, "a task is passed over"),
            Err(error) => return Err(error),
        }
    }
    Ok(changed)
}

fn ready_due(tx: &mut Tx<'_>, now: Timestamp) -> Result<usize, StoreError> {
    let due = tx.all(sql::DUE, [now.as_millisecond()], row)?;
    for task in &due {
        tx.apply(task, &Command::Due, now)?;
    }
    Ok(due.len())
}
