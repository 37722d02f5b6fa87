//! What owners change about whole queues, and the limits on what runs at once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use protocol::{
    QueueName, TaskState,
    queue::{ChangeQueue, QueueDepth, QueueMode, QueueStatus},
};
use rusqlite::Connection;

use super::{
    Queue,
    row::Row,
    sql,
    store::StoreError,
    submit::unknown_repository,
    tx::{Tx, all, parsed, text_value},
    wake::Wake,
};

/// Says whether a task may be leased now.
#[derive(Clone)]
pub(super) struct Control {
    wake: Arc<Wake>,
    /// Of all queues; 0 for no limit.
    max_running: u32,
    /// The disk is full.
    full: Arc<AtomicBool>,
}

/// What a queue's owner has said.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settings {
    pub(super) mode: QueueMode,
    pub(super) max_running: u32,
}

impl Control {
    pub(super) fn new(wake: Arc<Wake>, max_running: u32) -> Self {
        Self { wake, max_running, full: Arc::new(AtomicBool::new(false)) }
    }

    /// Says that no task of the queue is ready.
    pub(super) fn has_none(&self, queue: &QueueName) {
        self.wake.unblock(queue);
    }

    /// Whether this task, the next of its queue, may be leased. Counted in the lease's own transaction, so that no
    /// two leases take one place.
    pub(super) fn lets_go(&self, tx: &Tx<'_>, next: &Row) -> Result<bool, StoreError> {
        let settings = settings(tx, &next.queue)?.unwrap_or_default();
        if settings.mode == QueueMode::Paused || self.full.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let count = |row: &rusqlite::Row<'_>| row.get::<_, u32>(0);
        let full = (settings.max_running > 0
            && tx.one(sql::LIVE_COUNT_OF_QUEUE, [next.queue.as_str()], count)? >= Some(settings.max_running))
            || (self.max_running > 0 && tx.one(sql::LIVE_COUNT, [], count)? >= Some(self.max_running));
        if full {
            self.wake.block(&next.queue);
        }
        Ok(!full)
    }
}

/// What the queue's owner has said; `None` where there is no such queue.
pub(super) fn settings(tx: &Tx<'_>, queue: &QueueName) -> Result<Option<Settings>, StoreError> {
    tx.one(sql::QUEUE_CONTROL, [queue.as_str()], |row| read(row, 0))
}

fn read(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Settings> {
    if row.get_ref(at)? == rusqlite::types::ValueRef::Null {
        return Ok(Settings::default());
    }
    Ok(Settings { mode: text_value(row, at)?, max_running: row.get(at + 1)? })
}

impl Queue {
    /// Says whether the disk is full: then no task is handed out.
    pub fn set_full(&self, full: bool) {
        self.control.full.store(full, Ordering::Relaxed);
        if !full {
            self.wake.everybody();
        }
    }

    /// Changes what a queue does with tasks.
    ///
    /// # Errors
    /// `unknown_repository`, and the store's.
    pub async fn change(
        self: &Arc<Self>,
        name: &QueueName,
        change: ChangeQueue,
    ) -> Result<QueueStatus, StoreError> {
        // It runs on when the caller goes: who waits must be woken.
        let (all, name) = (self.clone(), name.clone());
        let changed = tokio::spawn(async move { all.change_and_wake(name, change).await });
        changed.await.map_err(|_| StoreError::Stopped)?
    }

    async fn change_and_wake(&self, name: QueueName, change: ChangeQueue) -> Result<QueueStatus, StoreError> {
        let queue = name.clone();
        let settings = self
            .store
            .write(move |tx| {
                let now = settings(tx, &queue)?.ok_or_else(|| unknown_repository(&queue))?;
                let next = Settings {
                    mode: change.mode.unwrap_or(now.mode),
                    max_running: change.max_running.unwrap_or(now.max_running),
                };
                tx.execute(sql::SET_QUEUE, (queue.as_str(), next.mode.as_str(), next.max_running))?;
                Ok(next)
            })
            .await?;
        self.wake.changed(&name);
        let depth = self.store.read(depths)?.remove(&name).unwrap_or_default();
        let Settings { mode, max_running } = settings;
        Ok(QueueStatus { name, mode, max_running, depth })
    }

    /// All queues, by name.
    ///
    /// # Errors
    /// The store's.
    pub fn queues(&self) -> Result<Vec<QueueStatus>, StoreError> {
        self.store.read(|connection| {
            let mut depths = depths(connection)?;
            all(connection, sql::QUEUES, [], |row| {
                let (name, Settings { mode, max_running }) = (parsed::<QueueName>(row, 0)?, read(row, 1)?);
                let depth = depths.remove(&name).unwrap_or_default();
                Ok(QueueStatus { name, mode, max_running, depth })
            })
        })
    }
}

fn depths(connection: &Connection) -> Result<HashMap<QueueName, QueueDepth>, StoreError> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok((parsed::<QueueName>(row, 0)?, text_value::<TaskState>(row, 1)?, row.get::<_, i64>(2)?))
    };
    let mut depths: HashMap<QueueName, QueueDepth> = HashMap::new();
    for (queue, state, count) in all(connection, sql::DEPTHS, [], read)? {
        let depth = depths.entry(queue).or_default();
        let of_state = match state {
            TaskState::Held => &mut depth.held,
            TaskState::Scheduled => &mut depth.scheduled,
            TaskState::Ready => &mut depth.ready,
            TaskState::Leased => &mut depth.leased,
            TaskState::Running => &mut depth.running,
            _ => continue,
        };
        *of_state = count.cast_unsigned();
    }
    Ok(depths)
}
