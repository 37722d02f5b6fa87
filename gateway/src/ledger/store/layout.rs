//! The tables, and how those of earlier versions become them.

use rusqlite::{Connection, Transaction};

/// The layout of the tables, in `PRAGMA user_version`.
pub(super) const VERSION: i64 = 3;

const SECRET: &str = "
    CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 1), bytes BLOB NOT NULL) STRICT;
";

const TABLES: &str = "
    -- The boot of the machine in which the file was written last.
    CREATE TABLE life (id INTEGER PRIMARY KEY CHECK (id = 1), boot TEXT NOT NULL) STRICT;
    CREATE TABLE account (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE, -- kind:name, then @birth or @day
        day TEXT, -- of what counts a day: UTC
        limit_nanos INTEGER, -- NULL: none
        limit_set INTEGER NOT NULL, -- by the owner
        spent_nanos INTEGER NOT NULL,
        covered_nanos INTEGER NOT NULL, -- at least what is spent and held
        told INTEGER NOT NULL, -- the mark, in percent
        requests INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        models TEXT NOT NULL, -- a JSON array
        removed TEXT NOT NULL -- a JSON object
    ) STRICT;
    CREATE TABLE virtual_key (
        id INTEGER PRIMARY KEY,
        hash BLOB NOT NULL UNIQUE, -- SHA-256
        name TEXT NOT NULL, -- TASK/ATTEMPT, or the owner's name
        task TEXT, -- NULL: the owner's
        attempt INTEGER,
        born TEXT, -- RFC 3339
        own INTEGER NOT NULL, -- its account
        pays INTEGER, -- the task's account
        queue TEXT,
        expires_at TEXT NOT NULL, -- RFC 3339
        revoked INTEGER NOT NULL,
        cut INTEGER NOT NULL,
        limits TEXT NOT NULL -- a JSON object
    ) STRICT;
    CREATE TABLE budget (scope TEXT PRIMARY KEY, limit_nanos INTEGER) STRICT, WITHOUT ROWID;
    -- The last request of each slot whose charge is in here.
    CREATE TABLE settled (slot INTEGER PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
";

/// An account was a task's, by its name, and had counted what its keys have used.
const FROM_2: &str = "
    ALTER TABLE account RENAME TO old_account;
    ALTER TABLE virtual_key RENAME TO old_key;
";
/// What was held then was charged at the next start, whatever the end was.
const AFTER_2: &str = "
    INSERT INTO account
        SELECT row_number() OVER (ORDER BY name), 'task:' || name, NULL, budget_nanos, 0,
            spent_nanos + held_nanos, spent_nanos + held_nanos, 0, 0, 0, 0, '[]', '{}'
        FROM old_account;
    INSERT INTO account
        SELECT (SELECT count(*) FROM old_account) + row_number() OVER (ORDER BY k.task, k.attempt),
            'key:' || k.task || '/' || k.attempt, NULL, NULL, 0,
            ifnull(iif(first, spent_nanos + held_nanos, 0), 0),
            ifnull(iif(first, spent_nanos + held_nanos, 0), 0), 0,
            ifnull(iif(first, requests, 0), 0), ifnull(iif(first, input_tokens, 0), 0),
            ifnull(iif(first, output_tokens, 0), 0), ifnull(iif(first, models, '[]'), '[]'), '{}'
        FROM (SELECT *, attempt = min(attempt) OVER (PARTITION BY task) AS first FROM old_key) AS k
            LEFT JOIN old_account AS a ON a.name = k.task;
    INSERT INTO virtual_key
        SELECT (SELECT count(*) FROM account) + row_number() OVER (ORDER BY k.task, k.attempt),
            hash, k.task || '/' || attempt, k.task, attempt, NULL, own.id, task.id, NULL,
            expires_at, revoked, 0, '{}'
        FROM old_key AS k
            JOIN account AS own ON own.name = 'key:' || k.task || '/' || attempt
            LEFT JOIN account AS task ON task.name = 'task:' || k.task;
    DROP TABLE old_account;
    DROP TABLE old_key;
";

/// Makes the tables what they are now. The version that was found, where it is a later one.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<Result<(), i64>> {
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    let transaction = connection.transaction()?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match found {
        0 => transaction.execute_batch(&[SECRET, TABLES].concat())?,
        // Accounts of version 1 had a column for one above them, which nobody ever had.
        1 | 2 => take_over(&transaction)?,
        VERSION => {}
        found => return Ok(Err(found)),
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit().map(Ok)
}

fn take_over(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(&[FROM_2, TABLES, AFTER_2].concat())
}
