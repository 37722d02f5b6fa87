//! Who and what is registered: repositories, workers, and commits that mirrors are known to have.

use std::{collections::HashMap, sync::Mutex};

use jiff::Timestamp;
use protocol::{Code, Problem, QueueName, TaskId, WorkerId, repo::Repo};

use super::{
    Queue,
    row::Row,
    sql,
    store::{StoreError, locked},
    submit::unknown_repository,
    transition::Command,
    tx::{all, one, parsed, time},
};

/// A repository, with what only git may see of it.
#[derive(Debug, Clone)]
pub struct Registered {
    /// As people see it.
    pub repo: Repo,
    /// As git takes it, perhaps with a credential.
    pub source: String,
}

/// Queues of workers that have not ended, as far as they were asked for.
#[derive(Default)]
pub(super) struct Workers {
    known: Mutex<HashMap<WorkerId, QueueName>>,
}

impl Workers {
    pub(super) fn forget(&self, worker: &WorkerId) {
        locked(&self.known).remove(worker);
    }
}

impl Queue {
    /// The queue of a worker that has not ended.
    ///
    /// # Errors
    /// The store's.
    pub fn queue_of(&self, worker: &WorkerId) -> Result<Option<QueueName>, StoreError> {
        // Held over the reading, so that an end that is committed meanwhile is not overwritten.
        let mut known = locked(&self.workers.known);
        if let Some(queue) = known.get(worker) {
            return Ok(Some(queue.clone()));
        }
        let read =
            |row: &rusqlite::Row<'_>| Ok((parsed::<QueueName>(row, 0)?, row.get::<_, Option<i64>>(1)?));
        let found = self.store.read(|connection| one(connection, sql::WORKER, [worker.as_str()], read))?;
        let queue = found.and_then(|(queue, ended)| ended.is_none().then_some(queue));
        if let Some(queue) = &queue {
            known.insert(worker.clone(), queue.clone());
        }
        Ok(queue)
    }

    /// Registers a worker for one queue.
    ///
    /// # Errors
    /// `unknown_repository`, and the store's.
    pub async fn add_worker(
        &self,
        queue: QueueName,
        name: String,
        now: Timestamp,
    ) -> Result<WorkerId, StoreError> {
        let id = WorkerId::generate();
        let worker = id.clone();
        self.store
            .write(move |tx| {
                if tx.one(sql::REPO, [queue.as_str()], |_| Ok(()))?.is_none() {
                    return Err(unknown_repository(&queue).into());
                }
                let row = (worker.as_str(), queue.as_str(), &name, now.as_millisecond());
                tx.execute(sql::ADD_WORKER, row).map(|_| ())
            })
            .await?;
        Ok(id)
    }

    /// All repositories, by name.
    ///
    /// # Errors
    /// The store's.
    pub fn repos(&self) -> Result<Vec<Repo>, StoreError> {
        let found = self.store.read(|connection| all(connection, sql::REPOS, [], registered))?;
        Ok(found.into_iter().map(|registered| registered.repo).collect())
    }

    /// One repository.
    ///
    /// # Errors
    /// The store's.
    pub fn repo(&self, name: &QueueName) -> Result<Option<Registered>, StoreError> {
        self.store.read(|connection| one(connection, sql::REPO, [name.as_str()], registered))
    }

    /// Registers a repository; whether it is new. Repeated with the same source, it changes nothing.
    ///
    /// # Errors
    /// `repository_taken`, and the store's.
    pub async fn add_repo(&self, new: Registered) -> Result<(Repo, bool), StoreError> {
        self.store
            .write(move |tx| {
                let name = new.repo.name.as_str();
                if let Some(old) = tx.one(sql::REPO, [name], registered)? {
                    if old.source == new.source {
                        return Ok((old.repo, false));
                    }
                    let why = format!(
                        "{name} is registered with another source ({}); choose another name, or remove it first",
                        old.repo.source
                    );
                    return Err(Problem::new(Code::RepositoryTaken, why).into());
                }
                let made = new.repo.created_at.as_millisecond();
                tx.execute(sql::ADD_REPO, (name, &new.source, &new.repo.source, made))?;
                Ok((new.repo, true))
            })
            .await
    }

    /// Removes a repository that has no unfinished task. Its finished tasks stay.
    ///
    /// # Errors
    /// `unknown_repository`, `repository_busy`, and the store's.
    pub async fn remove_repo(&self, name: QueueName) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                let read = |row: &rusqlite::Row<'_>| parsed::<TaskId>(row, 0);
                if let Some(task) = tx.one(sql::UNFINISHED, [name.as_str()], read)? {
                    let why = format!(
                        "{name} has tasks that are not finished, {task} among them; wait for them, or cancel them"
                    );
                    return Err(Problem::new(Code::RepositoryBusy, why).into());
                }
                tx.guard()?;
                tx.execute(sql::FORGET_COMMITS, [name.as_str()])?;
                tx.execute(sql::FORGET_QUEUE, [name.as_str()])?;
                match tx.execute(sql::REMOVE_REPO, [name.as_str()])? {
                    0 => Err(unknown_repository(&name).into()),
                    _ => Ok(()),
                }
            })
            .await
    }

    /// Held tasks of a queue, the oldest first; a hundred at most.
    ///
    /// # Errors
    /// The store's.
    pub fn held(&self, queue: &QueueName) -> Result<Vec<Row>, StoreError> {
        self.store.read(|connection| super::read::rows(connection, sql::HELD, [queue.as_str()]))
    }

    /// Queues that have held tasks.
    ///
    /// # Errors
    /// The store's.
    pub fn held_queues(&self) -> Result<Vec<QueueName>, StoreError> {
        self.store.read(|connection| all(connection, sql::HELD_QUEUES, [], |row| parsed(row, 0)))
    }

    /// Pins a task's base, and remembers that the mirror has the commit.
    ///
    /// # Errors
    /// `wrong_state` where the task is not held any more, and the store's.
    pub async fn pin(&self, id: TaskId, commit: String, now: Timestamp) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                let task = tx.row(&id)?;
                tx.guard()?;
                tx.execute(sql::KEEP_COMMIT, (task.queue.as_str(), &commit))?;
                tx.apply(&task, &Command::Pin { commit }, now).map(|_| ())
            })
            .await
    }
}

fn registered(row: &rusqlite::Row<'_>) -> rusqlite::Result<Registered> {
    let (name, shown) = (parsed(row, 0)?, row.get(2)?);
    let created_at = time(row, 3)?.unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(Registered { repo: Repo { name, source: shown, created_at }, source: row.get(1)? })
}
