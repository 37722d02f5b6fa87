//! The database: one thread that writes, in groups, and connections that only read.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread::JoinHandle,
};

use protocol::{Code, Problem};
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use tokio::sync::{mpsc, oneshot};

use super::{
    mark::Mark,
    migrate::migrate,
    sql,
    tx::{Committed, Tx},
};
use crate::crash_point::crash_point;

/// Operations that may wait for the writer; more wait outside.
const WAITING: usize = 4_096;
/// Operations in one transaction at most.
const GROUP: usize = 1_024;
/// Bytes of a database that is looked through for damage before it is used. A larger one is looked through beside
/// the work: half a second for each such size would make a start slow.
const CHECKED_AT_ONCE: u64 = 64 * 1024 * 1024;
/// Idle connections that are kept for reading.
const IDLE_READERS: usize = 8;

/// Why an operation was not done. Nothing of it is in the database.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The rules say no.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The disk, or SQLite, does.
    #[error("the database cannot be used: {0}")]
    Storage(String),
    /// A row does not hold what this program writes; the rest of the database can be used.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The writer has stopped.
    #[error("the coordinator is stopping")]
    Stopped,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
                Self::Damaged(error.to_string())
            }
            other => Self::Storage(other.to_string()),
        }
    }
}

impl From<Problem> for StoreError {
    fn from(problem: Problem) -> Self {
        Self::Refused(Box::new(problem))
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(problem) => *problem,
            StoreError::Storage(why) => Self::new(
                Code::StorageUnavailable,
                format!(
                    "nothing was done, because the database cannot be used: {why}; see to the disk of the data folder"
                ),
            ),
            StoreError::Damaged(why) => Self::new(
                Code::Internal,
                format!("nothing was done, because the database is damaged: {why}; restore it from a copy"),
            ),
            StoreError::Stopped => {
                Self::new(Code::ShuttingDown, "the coordinator is stopping; try again when it is back")
            }
        }
    }
}

/// What becomes of an operation once its transaction is committed, or is not.
type Finish = Box<dyn FnOnce(Option<&StoreError>) + Send>;
/// An operation: runs inside the transaction, and leaves what answers it.
type Job = Box<dyn FnOnce(&mut Tx<'_>) -> Ran + Send>;

/// How an operation went inside the transaction.
struct Ran {
    verdict: Verdict,
    finish: Finish,
}

enum Verdict {
    Keep,
    Undo,
    /// The database is at fault: the whole transaction goes.
    Broken(StoreError),
}

/// A transaction that is over.
#[derive(Debug, Clone, Copy)]
pub struct Commit<'a> {
    /// What it changed.
    pub changes: &'a [Committed],
    /// Of how many operations it was made.
    pub operations: usize,
    /// Whether it wrote something, and so flushed it. Many lease requests only look.
    pub flushed: bool,
}

/// Who is told of it.
type Told<'a> = &'a dyn Fn(Commit<'_>);

/// The open database.
pub struct Store {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Store {
    /// Opens or makes the database. After each commit and before the answers, `committed` is told on the
    /// writer's thread what has changed, and by how many operations; it must not wait.
    ///
    /// # Errors
    /// Where the file is no database of ours, is newer than this program, or cannot be written.
    pub fn open(path: &Path, committed: impl Fn(Commit<'_>) + Send + 'static) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.set_prepared_statement_cache_capacity(128);
        // Else each change of a bound value that a partial index could know of has the statement parsed anew.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.execute_batch(sql::WRITER)?;
        migrate(&mut connection)?;
        if path.metadata().is_ok_and(|file| file.len() <= CHECKED_AT_ONCE) {
            check(&connection)?;
        }
        let mark = Mark::open(path, &connection)?;
        let (jobs, queue) = mpsc::channel(WAITING);
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || Writer { connection, mark, committed: &committed }.write_all(queue))
            .map_err(|error| StoreError::Storage(error.to_string()))?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            writer: Mutex::new(Some(writer)),
            path: path.to_owned(),
            idle: Mutex::default(),
        })
    }

    /// Does an operation in the next transaction, and answers when that is on disk. The operation is undone
    /// as a whole where it fails; see `Tx::guard`. It is done even when the caller has gone.
    ///
    /// # Errors
    /// What the operation says, and [`StoreError`].
    pub async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let result = operation(tx);
            let verdict = match &result {
                Ok(_) => Verdict::Keep,
                Err(error @ StoreError::Storage(_)) => Verdict::Broken(error.clone()),
                Err(_) => Verdict::Undo,
            };
            let finish: Finish = Box::new(move |failed| {
                // An error means that the caller has gone.
                let _ = reply.send(match failed {
                    Some(error) if result.is_ok() => Err(error.clone()),
                    _ => result,
                });
            });
            Ran { verdict, finish }
        });
        let jobs = locked(&self.jobs).clone().ok_or(StoreError::Stopped)?;
        jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Storage("its transaction was given up".to_owned()))?
    }

    /// Reads what is committed, beside the writer.
    ///
    /// # Errors
    /// What the reading says, and [`StoreError`].
    pub fn read<T>(
        &self,
        reading: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = locked(&self.idle).pop();
        let connection = idle.map_or_else(|| self.reader(), Ok)?;
        let result = reading(&connection);
        let mut idle = locked(&self.idle);
        if idle.len() < IDLE_READERS {
            idle.push(connection);
        }
        result
    }

    /// Looks through the whole database for damage, beside the writer. Of a small one this was done at its opening.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], and the store's.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.path.metadata().is_ok_and(|file| file.len() <= CHECKED_AT_ONCE) {
            return Ok(());
        }
        check(&self.reader()?)
    }

    fn reader(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.execute_batch(sql::READER)?;
        Ok(connection)
    }

    /// How many operations wait for the writer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        locked(&self.jobs).as_ref().map_or(0, |jobs| jobs.max_capacity() - jobs.capacity())
    }

    /// Takes no more operations, and returns when those taken are done.
    pub fn close(&self) {
        locked(&self.jobs).take();
        if let Some(writer) = locked(&self.writer).take() {
            // It ends by itself; a panic there has been told on stderr.
            let _ = writer.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// A lock whose holder panicked guards nothing that could be half done: each holder does one step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(connection: &Connection) -> Result<(), StoreError> {
    let said: String = connection.query_row(sql::CHECK, [], |row| row.get(0))?;
    if said == "ok" {
        return Ok(());
    }
    Err(StoreError::Damaged(format!(
        "{said}. Restore it from a copy, or save what can be saved with `sqlite3 FILE .recover`"
    )))
}

/// The writer's thread.
struct Writer<'a> {
    connection: Connection,
    mark: Mark,
    committed: Told<'a>,
}

impl Writer<'_> {
    /// All that waits goes into one transaction; the answers go out after its commit.
    fn write_all(self, mut queue: mpsc::Receiver<Job>) {
        let mut group = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            group.push(first);
            while group.len() < GROUP {
                match queue.try_recv() {
                    Ok(job) => group.push(job),
                    Err(_) => break,
                }
            }
            self.write_group(&mut group);
        }
        if let Err(error) = self.connection.close() {
            tracing::warn!(error = %error.1, "the database did not close cleanly");
        }
    }

    fn write_group(&self, group: &mut Vec<Job>) {
        let mut finishes = Vec::with_capacity(group.len());
        let mut changes = Vec::new();
        let outcome = self.write(group, &mut changes, &mut finishes);
        match &outcome {
            Ok(commits) => {
                crash_point("store.committed");
                if let Some(Err(error)) = commits.map(|commits| self.mark.set(commits)) {
                    tracing::error!(%error, "the mark beside the database cannot be written");
                }
                let (operations, flushed) = (finishes.len(), commits.is_some());
                (self.committed)(Commit { changes: &changes, operations, flushed });
            }
            Err(error) => {
                tracing::error!(%error, "a transaction was not committed");
                // Some errors have rolled it back already.
                if !self.connection.is_autocommit()
                    && let Err(again) = execute(&self.connection, "ROLLBACK")
                {
                    tracing::error!(error = %again, "and not rolled back");
                }
            }
        }
        // Jobs that were not run are dropped here, and with them their replies.
        group.clear();
        for finish in finishes {
            finish(outcome.as_ref().err());
        }
        crash_point("store.answered");
    }

    /// The count of commits, where something was written.
    fn write(
        &self,
        group: &mut Vec<Job>,
        changes: &mut Vec<Committed>,
        finishes: &mut Vec<Finish>,
    ) -> Result<Option<u64>, StoreError> {
        let connection = &self.connection;
        execute(connection, "BEGIN IMMEDIATE")?;
        let before = connection.total_changes();
        for job in group.drain(..) {
            run(connection, job, changes, finishes)?;
        }
        // What only looked needs no flush.
        let commits = if connection.total_changes() == before {
            None
        } else {
            let mut mark = connection.prepare_cached(sql::COMMIT_MARK)?;
            Some(mark.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
        };
        crash_point("store.written");
        execute(connection, "COMMIT")?;
        Ok(commits)
    }
}

fn execute(connection: &Connection, statement: &str) -> Result<(), StoreError> {
    connection.prepare_cached(statement)?.execute([])?;
    Ok(())
}

fn run(
    connection: &Connection,
    job: Job,
    changes: &mut Vec<Committed>,
    finishes: &mut Vec<Finish>,
) -> Result<(), StoreError> {
    let (before, written) = (changes.len(), connection.total_changes());
    let mut tx = Tx::new(connection, changes);
    let Ran { verdict, finish } = job(&mut tx);
    let guarded = tx.is_guarded();
    finishes.push(finish);
    match verdict {
        Verdict::Keep if guarded => execute(connection, sql::RELEASE),
        Verdict::Keep => Ok(()),
        Verdict::Undo => {
            changes.truncate(before);
            if guarded {
                connection.execute_batch(sql::UNDO)?;
            } else if connection.total_changes() != written {
                let why = "an operation was refused after it had written, and cannot be undone alone";
                return Err(StoreError::Storage(why.to_owned()));
            }
            Ok(())
        }
        Verdict::Broken(error) => Err(error),
    }
}
