//! Brings an older database up to date.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{
    read::unsealed_made,
    sql,
    store::StoreError,
    sum::of_text,
    tx::{EventRow, all, unsealed_row},
};

/// The first schema whose rows have checksums.
const SEALED: usize = 2;

/// Applies the migrations that the database lacks, each in a transaction of its own.
///
/// # Errors
/// Where the database is of a newer program, and the store's.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let at: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    if at > sql::MIGRATIONS.len() {
        return Err(StoreError::Storage(format!(
            "it has schema {at}, and this program knows {}: use the newer program that wrote it",
            sql::MIGRATIONS.len()
        )));
    }
    for (number, migration) in (1..).zip(sql::MIGRATIONS).skip(at) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration)?;
        if number == SEALED {
            seal(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", i64::try_from(number).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    Ok(())
}

/// Writes the checksums of rows that were written without.
fn seal(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let mut last = i64::MIN;
    loop {
        let rows = all(transaction, sql::ALL_ROWS, [last], unsealed_row)?;
        let Some(end) = rows.last() else { break };
        last = end.n;
        for row in rows {
            transaction.prepare_cached(sql::SEAL_ROW)?.execute((row.n, row.sum()))?;
            let id = [row.id.as_str()];
            let made = transaction.prepare_cached(sql::MADE)?.query_row(id, |row| unsealed_made(row, 0))?;
            let used = |row: &rusqlite::Row<'_>| row.get::<_, Option<String>>(0);
            let usage = transaction.prepare_cached(sql::USAGE)?.query_row([row.n], used)?;
            let usage = usage.as_deref().map_or(0, of_text);
            transaction.prepare_cached(sql::SEAL_MADE)?.execute((row.n, made.sum(), usage))?;
            seal_parts(transaction, row.n)?;
        }
    }
    Ok(())
}

/// What belongs to one task; a task at a time, since all bodies together may be more than memory.
fn seal_parts(transaction: &Transaction<'_>, task: i64) -> Result<(), StoreError> {
    let event = |row: &rusqlite::Row<'_>| {
        Ok(EventRow {
            task: row.get(0)?,
            n: row.get(1)?,
            at: row.get(2)?,
            attempt: row.get(3)?,
            state: row.get(4)?,
            reason: row.get(5)?,
        })
    };
    for event in all(transaction, sql::UNSEALED_EVENTS, [task], event)? {
        transaction.prepare_cached(sql::SEAL_EVENT)?.execute((task, event.n, event.sum()))?;
    }
    for work in all(transaction, sql::BODY, [task], |row| row.get::<_, String>(0))? {
        transaction.prepare_cached(sql::SEAL_BODY)?.execute((task, of_text(&work)))?;
    }
    let order = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
    for (seq, body) in all(transaction, sql::UNSEALED_ORDERS, [task], order)? {
        transaction.prepare_cached(sql::SEAL_ORDER)?.execute((task, seq, of_text(&body)))?;
    }
    Ok(())
}
