//! The ledger on disk: SQLite, and the only file that speaks SQL. Rows hold whole states, so writing one
//! twice, or a later one after a lost one, does no harm.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path};

use jiff::Timestamp;
use protocol::{TaskId, Usd, keys::KeyUsage};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{account::Account, virtual_key::KeyHash};

/// The layout of the tables, in `PRAGMA user_version`.
const VERSION: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 1), bytes BLOB NOT NULL) STRICT;
    CREATE TABLE account (
        name TEXT PRIMARY KEY,
        budget_nanos INTEGER NOT NULL,
        spent_nanos INTEGER NOT NULL,
        held_nanos INTEGER NOT NULL,
        requests INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        models TEXT NOT NULL -- a JSON array
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE virtual_key (
        hash BLOB PRIMARY KEY, -- SHA-256
        task TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        expires_at TEXT NOT NULL, -- RFC 3339
        revoked INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Accounts have none above them any more; nobody ever had one.
const FROM_1: &str = "ALTER TABLE account DROP COLUMN parent;";

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
    /// The file cannot be made.
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

#[derive(Debug, Clone)]
pub(super) struct KeyRow {
    pub(super) hash: KeyHash,
    pub(super) task: TaskId,
    pub(super) attempt: u32,
    pub(super) expires_at: Timestamp,
    pub(super) revoked: bool,
}

#[derive(Debug)]
pub(super) enum Row {
    Account(String, Account),
    Key(KeyRow),
}

pub(super) struct Loaded {
    pub(super) secret: [u8; 32],
    pub(super) accounts: Vec<(String, Account)>,
    pub(super) keys: Vec<KeyRow>,
}

#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    path: String,
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
        let connection =
            Connection::open(path).map_err(|error| StoreError::Sqlite { path: shown.clone(), error })?;
        let mut store = Self { connection, path: shown };
        store.prepare()?;
        Ok(store)
    }

    fn fault(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let path = self.path.clone();
        move |error| StoreError::Sqlite { path: path.clone(), error }
    }

    fn prepare(&mut self) -> Result<(), StoreError> {
        let fault = self.fault();
        let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";
        self.connection.execute_batch(pragmas).map_err(&fault)?;
        let transaction = self.connection.transaction().map_err(&fault)?;
        let found: i64 =
            transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(&fault)?;
        match found {
            0 => {
                transaction.execute_batch(SCHEMA).map_err(&fault)?;
                transaction.pragma_update(None, "user_version", VERSION).map_err(&fault)?;
            }
            1 => {
                transaction.execute_batch(FROM_1).map_err(&fault)?;
                transaction.pragma_update(None, "user_version", VERSION).map_err(&fault)?;
            }
            VERSION => {}
            found => return Err(StoreError::Version { path: self.path.clone(), found }),
        }
        transaction.commit().map_err(fault)
    }

    pub(super) fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(Loaded { secret: self.secret()?, accounts: self.accounts()?, keys: self.keys()? })
    }

    fn secret(&self) -> Result<[u8; 32], StoreError> {
        let ask = "SELECT bytes FROM secret";
        let found = self.connection.query_row(ask, [], |row| row.get(0)).optional().map_err(self.fault())?;
        if let Some(secret) = found {
            return Ok(secret);
        }
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        secret[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        let insert = "INSERT INTO secret (id, bytes) VALUES (1, ?1)";
        self.connection.execute(insert, params![secret]).map_err(self.fault())?;
        Ok(secret)
    }

    fn accounts(&self) -> Result<Vec<(String, Account)>, StoreError> {
        let fault = self.fault();
        let mut statement = self.connection.prepare("SELECT * FROM account").map_err(&fault)?;
        let rows = statement.query_map([], |row| {
            let count = |name: &str| row.get::<_, i64>(name).map(i64::unsigned_abs);
            let nanos = |name: &str| count(name).map(Usd::from_nanos);
            let models: String = row.get("models")?;
            let used = KeyUsage {
                spent_usd: nanos("spent_nanos")?,
                held_usd: Usd::ZERO,
                requests: count("requests")?,
                input_tokens: count("input_tokens")?,
                output_tokens: count("output_tokens")?,
                models: serde_json::from_str(&models).unwrap_or_default(),
                removed: std::collections::BTreeMap::new(),
            };
            let account = Account { budget: nanos("budget_nanos")?, held: nanos("held_nanos")?, used };
            Ok((row.get("name")?, account))
        });
        rows.map_err(&fault)?.collect::<Result<_, _>>().map_err(fault)
    }

    fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        let fault = self.fault();
        let mut statement = self.connection.prepare("SELECT * FROM virtual_key").map_err(&fault)?;
        let mut rows = statement.query([]).map_err(&fault)?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next().map_err(&fault)? {
            let text = |name: &str| row.get::<_, String>(name).map_err(&fault);
            let damaged = |why: String| StoreError::Damaged { path: self.path.clone(), why };
            keys.push(KeyRow {
                hash: KeyHash::stored(row.get("hash").map_err(&fault)?),
                task: text("task")?.parse().map_err(|error| damaged(format!("{error}")))?,
                attempt: row.get("attempt").map_err(&fault)?,
                expires_at: text("expires_at")?.parse().map_err(|error| damaged(format!("{error}")))?,
                revoked: row.get("revoked").map_err(&fault)?,
            });
        }
        Ok(keys)
    }

    /// All rows, or none.
    pub(super) fn write(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let fault = self.fault();
        let transaction = self.connection.transaction().map_err(&fault)?;
        for row in rows {
            match row {
                Row::Account(name, account) => write_account(&transaction, name, account),
                Row::Key(key) => write_key(&transaction, key),
            }
            .map_err(&fault)?;
        }
        transaction.commit().map_err(fault)
    }
}

/// SQLite's integers are signed; nine billion dollars are enough.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn write_account(connection: &Connection, name: &str, account: &Account) -> rusqlite::Result<()> {
    let used = &account.used;
    let models = serde_json::Value::from(used.models.clone()).to_string();
    connection
        .prepare_cached("INSERT OR REPLACE INTO account VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(params![
            name,
            stored(account.budget.nanos()),
            stored(used.spent_usd.nanos()),
            stored(account.held.nanos()),
            stored(used.requests),
            stored(used.input_tokens),
            stored(used.output_tokens),
            models,
        ])?;
    Ok(())
}

fn write_key(connection: &Connection, key: &KeyRow) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT OR REPLACE INTO virtual_key VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(
        params![key.hash.bytes(), key.task.as_str(), key.attempt, key.expires_at.to_string(), key.revoked],
    )?;
    Ok(())
}
