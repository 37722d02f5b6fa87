//! The ledger on disk: SQLite, and the only file that speaks SQL, with its layout's. Rows hold whole states,
//! so writing one twice, or a later one after a lost one, does no harm.

use std::{collections::HashMap, fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc};

use protocol::{Usd, keys::KeyUsage};
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};

use super::{
    books::{Entry, Key, Who},
    pace::Pace,
};
use crate::{account::Account, virtual_key::KeyHash};

mod layout;

use layout::VERSION;

/// Why the ledger's file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("{path}: {error}: see that the disk has room and the file is ours")]
    Sqlite {
        /// The file.
        path: String,
        /// What it said.
        error: rusqlite::Error,
    },
    /// The file cannot be made, read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A later gateway made the file.
    #[error("{path} is of version {found}, and this gateway knows {VERSION}: start the newer gateway")]
    Version {
        /// The file.
        path: String,
        /// Its version.
        found: i64,
    },
    /// A row makes no sense.
    #[error("{path}: a row is damaged: {why}: restore the file from a backup, or move it away")]
    Damaged {
        /// The file.
        path: String,
        /// Which, and why.
        why: String,
    },
    /// The writer's thread cannot start.
    #[error("the ledger's thread cannot start: {0}")]
    Thread(String),
}

/// What is written at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Whether it must be on disk for good, against a power failure too.
    pub(super) flush: bool,
    pub(super) accounts: Vec<Entry>,
    pub(super) keys: Vec<Key>,
    pub(super) limits: Vec<(String, Option<Usd>)>,
    pub(super) settled: Vec<(u32, u64)>,
    pub(super) gone_accounts: Vec<u64>,
    pub(super) gone_keys: Vec<u64>,
}

/// What the file says.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) secret: [u8; 32],
    /// None in a new file.
    pub(super) boot: Option<String>,
    pub(super) accounts: Vec<Entry>,
    pub(super) keys: Vec<Key>,
    pub(super) limits: Vec<(String, Option<Usd>)>,
    pub(super) settled: HashMap<u32, u64>,
}

#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    path: String,
    flushing: bool,
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        // Before SQLite makes it, which would let others read it.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| StoreError::File { path: shown.clone(), error })?;
        let fault = |error| StoreError::Sqlite { path: shown.clone(), error };
        let mut connection = Connection::open(path).map_err(fault)?;
        layout::prepare(&mut connection)
            .map_err(fault)?
            .map_err(|found| StoreError::Version { path: shown.clone(), found })?;
        Ok(Self { connection, path: shown, flushing: true })
    }

    fn fault(&self, error: rusqlite::Error) -> StoreError {
        let path = self.path.clone();
        match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, why) => {
                StoreError::Damaged { path, why: why.to_string() }
            }
            error => StoreError::Sqlite { path, error },
        }
    }

    pub(super) fn load(&self) -> Result<Loaded, StoreError> {
        self.read().map_err(|error| self.fault(error))
    }

    fn read(&self) -> rusqlite::Result<Loaded> {
        let boot = self.connection.query_row("SELECT boot FROM life", [], |row| row.get(0)).optional()?;
        Ok(Loaded {
            secret: self.secret()?,
            boot,
            accounts: self.all("SELECT * FROM account", account)?,
            keys: self.all("SELECT * FROM virtual_key ORDER BY id", key)?,
            limits: self
                .all("SELECT scope, limit_nanos FROM budget", |row| Ok((row.get(0)?, sum(row, 1)?)))?,
            settled: self
                .all("SELECT slot, seq FROM settled", |row| {
                    Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
                })?
                .into_iter()
                .collect(),
        })
    }

    fn all<T>(
        &self,
        sql: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.connection.prepare(sql)?.query_map([], read)?.collect()
    }

    fn secret(&self) -> rusqlite::Result<[u8; 32]> {
        let ask = "SELECT bytes FROM secret";
        if let Some(secret) = self.connection.query_row(ask, [], |row| row.get(0)).optional()? {
            return Ok(secret);
        }
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        secret[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        self.connection.execute("INSERT INTO secret (id, bytes) VALUES (1, ?1)", params![secret])?;
        Ok(secret)
    }

    /// From now on the file is of this boot of the machine, and no slot has a request.
    pub(super) fn begin(&mut self, boot: &str, batch: &Batch) -> Result<(), StoreError> {
        let begin = |connection: &Connection| {
            connection.execute("INSERT OR REPLACE INTO life VALUES (1, ?1)", [boot])?;
            write(connection, batch)
        };
        self.commit(true, begin).map_err(|error| self.fault(error))
    }

    /// All of it, or nothing.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.commit(batch.flush, |connection| write(connection, batch)).map_err(|error| self.fault(error))
    }

    fn commit(
        &mut self,
        flush: bool,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        if flush != self.flushing {
            // A flush takes all that was written before along: it is one log.
            let level = if flush { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.flushing = flush;
        }
        let transaction = self.connection.transaction()?;
        work(&transaction)?;
        transaction.commit()
    }
}

fn write(connection: &Connection, batch: &Batch) -> rusqlite::Result<()> {
    for account in &batch.accounts {
        write_account(connection, account)?;
    }
    for key in &batch.keys {
        write_key(connection, key)?;
    }
    for (scope, limit) in &batch.limits {
        let sql = "INSERT OR REPLACE INTO budget VALUES (?1, ?2)";
        connection.execute(sql, params![scope, limit.map(|limit| stored(limit.nanos()))])?;
    }
    let mut settled = connection.prepare_cached("INSERT OR REPLACE INTO settled VALUES (?1, ?2)")?;
    for (slot, seq) in &batch.settled {
        settled.execute(params![slot, seq.cast_signed()])?;
    }
    for (sql, ids) in [
        ("DELETE FROM account WHERE id = ?1", &batch.gone_accounts),
        ("DELETE FROM virtual_key WHERE id = ?1", &batch.gone_keys),
    ] {
        let mut delete = connection.prepare_cached(sql)?;
        for id in ids {
            delete.execute([stored(*id)])?;
        }
    }
    Ok(())
}

/// SQLite's integers are signed; nine billion dollars are enough.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn damaged(why: impl std::fmt::Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, why.to_string().into())
}

fn count(row: &Row<'_>, name: &str) -> rusqlite::Result<u64> {
    row.get::<_, i64>(name).map(i64::unsigned_abs)
}

fn sum(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Usd>> {
    Ok(row.get::<_, Option<i64>>(at)?.map(|nanos| Usd::from_nanos(nanos.unsigned_abs())))
}

fn text<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &Row<'_>,
    name: &str,
) -> rusqlite::Result<Option<T>> {
    row.get::<_, Option<String>>(name)?.map(|text| text.parse().map_err(damaged)).transpose()
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, name: &str) -> rusqlite::Result<T> {
    serde_json::from_str(&row.get::<_, String>(name)?).map_err(damaged)
}

fn account(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let mut entry = Entry::new(count(row, "id")?, row.get("name")?, text(row, "day")?)
        .stored(Usd::from_nanos(count(row, "covered_nanos")?));
    let limit = row.get::<_, Option<i64>>("limit_nanos")?;
    entry.money = Account {
        limit: limit.map(|nanos| Usd::from_nanos(nanos.unsigned_abs())),
        spent: Usd::from_nanos(count(row, "spent_nanos")?),
        held: Usd::ZERO,
    };
    entry.limit_set = row.get("limit_set")?;
    entry.told = row.get("told")?;
    entry.used = KeyUsage {
        requests: count(row, "requests")?,
        input_tokens: count(row, "input_tokens")?,
        output_tokens: count(row, "output_tokens")?,
        models: json(row, "models")?,
        removed: json(row, "removed")?,
        ..KeyUsage::default()
    };
    Ok(entry)
}

fn key(row: &Row<'_>) -> rusqlite::Result<Key> {
    let name: String = row.get("name")?;
    let who = match text(row, "task")? {
        Some(task) => Who::Attempt { task, attempt: row.get("attempt")?, born: text(row, "born")? },
        None => Who::Owner(name.parse().map_err(damaged)?),
    };
    Ok(Key {
        id: count(row, "id")?,
        hash: KeyHash::stored(row.get("hash")?),
        name: Arc::from(name),
        who,
        own: count(row, "own")?,
        task: row.get::<_, Option<i64>>("pays")?.map(i64::unsigned_abs),
        queue: text(row, "queue")?,
        expires_at: text(row, "expires_at")?.ok_or_else(|| damaged("a key without an end"))?,
        revoked: row.get("revoked")?,
        cut: row.get("cut")?,
        limits: json(row, "limits")?,
        pace: Pace::default(),
    })
}

fn write_account(connection: &Connection, account: &Entry) -> rusqlite::Result<()> {
    let (money, used) = (&account.money, &account.used);
    let removed = serde_json::to_string(&used.removed).map_err(damaged)?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO account VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            stored(account.id),
            account.name,
            account.day.map(|day| day.to_string()),
            money.limit.map(|limit| stored(limit.nanos())),
            account.limit_set,
            stored(money.spent.nanos()),
            stored(account.covered.nanos()),
            account.told,
            stored(used.requests),
            stored(used.input_tokens),
            stored(used.output_tokens),
            serde_json::Value::from(used.models.clone()).to_string(),
            removed,
        ])?;
    Ok(())
}

fn write_key(connection: &Connection, key: &Key) -> rusqlite::Result<()> {
    let (task, attempt, born) = match &key.who {
        Who::Attempt { task, attempt, born } => (Some(task.as_str()), Some(*attempt), born.as_ref()),
        Who::Owner(_) => (None, None, None),
    };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO virtual_key
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            stored(key.id),
            key.hash.bytes(),
            &*key.name,
            task,
            attempt,
            born.map(ToString::to_string),
            stored(key.own),
            key.task.map(stored),
            key.queue.as_ref().map(protocol::QueueName::as_str),
            key.expires_at.to_string(),
            key.revoked,
            key.cut,
            serde_json::to_string(&key.limits).map_err(damaged)?,
        ])?;
    Ok(())
}
