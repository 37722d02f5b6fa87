//! One thread writes the ledger: what has changed is collected, and goes into one transaction. Who needs it
//! on disk for good waits for the batch; nobody else waits for anything.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    StoreError,
    books::Books,
    store::{Batch, Store},
};

/// What nobody waits for is collected for so long.
const COLLECT: Duration = Duration::from_millis(20);
/// After a failure the same is tried again then.
const AGAIN: Duration = Duration::from_secs(1);
/// How often what is covered on disk is lowered to what is used.
const LOWER: Duration = Duration::from_secs(60);

/// The books, and who writes them down.
#[derive(Debug)]
pub(super) struct Shared {
    books: Mutex<Desk>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
}

#[derive(Debug)]
struct Desk {
    books: Books,
    /// Whether the writer sleeps until something is to be written.
    idle: bool,
    /// Whether the last batch could not be written.
    failing: bool,
    stop: bool,
}

/// How far the disk is.
#[derive(Debug, Clone, Default)]
struct Progress {
    durable: u64,
    failed: u64,
    why: String,
}

/// The books, opened. Closed, the writer hears of what has changed.
pub(super) struct Open<'a> {
    desk: MutexGuard<'a, Desk>,
    wake: &'a Condvar,
}

impl std::ops::Deref for Open<'_> {
    type Target = Books;
    fn deref(&self) -> &Books {
        &self.desk.books
    }
}

impl std::ops::DerefMut for Open<'_> {
    fn deref_mut(&mut self) -> &mut Books {
        &mut self.desk.books
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // Waking costs a system call: only where it sleeps for long, or must not collect on.
        let urgent = self.desk.books.dirt.flush;
        if urgent || (self.desk.idle && !self.desk.books.dirt.is_empty()) {
            self.desk.idle = false;
            self.wake.notify_all();
        }
    }
}

impl Shared {
    pub(super) fn new(books: Books) -> Arc<Self> {
        let desk = Desk { books, idle: false, failing: false, stop: false };
        let progress = watch::Sender::new(Progress::default());
        Arc::new(Self { books: Mutex::new(desk), wake: Condvar::new(), progress })
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self) -> Open<'_> {
        Open { desk: self.desk(), wake: &self.wake }
    }

    /// Waits until this batch is on disk for good.
    ///
    /// # Errors
    /// Why it is not. What it had to write is tried again.
    pub(super) async fn durable(&self, batch: u64) -> Result<(), String> {
        let mut progress = self.progress.subscribe();
        let ready = |at: &Progress| at.durable >= batch || at.failed >= batch;
        let at = progress.wait_for(ready).await.map_err(|_| "its writer has stopped".to_owned())?;
        if at.durable >= batch { Ok(()) } else { Err(at.why.clone()) }
    }

    fn publish(&self, progress: Progress) {
        self.progress.send_replace(progress);
    }
}

/// The thread. Dropped, it writes what is left and ends.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Weak<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(shared: &Arc<Shared>, store: Store) -> Result<Self, StoreError> {
        let theirs = Arc::clone(shared);
        let thread = thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || work(&theirs, store))
            .map_err(|error| StoreError::Thread(error.to_string()))?;
        Ok(Self { shared: Arc::downgrade(shared), thread: Some(thread) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.desk().stop = true;
            shared.wake.notify_all();
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the ledger's thread has failed");
        }
    }
}

fn work(shared: &Shared, mut store: Store) {
    let mut lowered = Instant::now();
    loop {
        let mut desk = wait(shared);
        if lowered.elapsed() >= LOWER {
            desk.books.lower();
            lowered = Instant::now();
        }
        let stop = desk.stop;
        let (number, batch) = take(&mut desk.books);
        drop(desk);
        match store.write(&batch) {
            Ok(()) => written(shared, number, &batch),
            Err(error) => failed(shared, number, batch, &error.to_string()),
        }
        if stop {
            return;
        }
    }
}

/// Until there is something to write, and a little longer where nobody waits for it.
fn wait(shared: &Shared) -> MutexGuard<'_, Desk> {
    let mut desk = shared.desk();
    desk.idle = true;
    let nothing = |desk: &mut Desk| desk.books.dirt.is_empty() && !desk.stop;
    let waited = shared.wake.wait_timeout_while(desk, LOWER, nothing);
    desk = waited.unwrap_or_else(PoisonError::into_inner).0;
    desk.idle = false;
    let (collect, patient) = if desk.failing { (AGAIN, true) } else { (COLLECT, false) };
    let collecting = |desk: &mut Desk| (patient || !desk.books.dirt.flush) && !desk.stop;
    let waited = shared.wake.wait_timeout_while(desk, collect, collecting);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

/// Takes what has changed, as it is now.
pub(super) fn take(books: &mut Books) -> (u64, Batch) {
    let dirt = &mut books.dirt;
    let number = dirt.batch;
    dirt.batch += 1;
    let (accounts, keys) = (std::mem::take(&mut dirt.accounts), std::mem::take(&mut dirt.keys));
    let mut batch = Batch {
        flush: std::mem::take(&mut dirt.flush),
        limits: std::mem::take(&mut dirt.limits),
        settled: std::mem::take(&mut dirt.settled),
        gone_accounts: std::mem::take(&mut dirt.gone_accounts),
        gone_keys: std::mem::take(&mut dirt.gone_keys),
        ..Batch::default()
    };
    for id in accounts {
        if let Some(entry) = books.accounts.get_mut(&id) {
            entry.dirty = false;
            batch.accounts.push(entry.clone());
        }
    }
    batch.keys = keys.iter().filter_map(|id| books.keys.get(id).cloned()).collect();
    (number, batch)
}

fn written(shared: &Shared, number: u64, batch: &Batch) {
    let mut desk = shared.desk();
    desk.failing = false;
    let dirt = &mut desk.books.dirt;
    for (slot, _) in &batch.settled {
        dirt.free(*slot);
    }
    if batch.flush {
        dirt.durable = number;
        let progress = Progress { durable: number, failed: dirt.failed, why: String::new() };
        drop(desk);
        shared.publish(progress);
    }
}

/// Puts all back, to be written with what comes next.
fn failed(shared: &Shared, number: u64, batch: Batch, why: &str) {
    tracing::error!("the ledger cannot be written: {why}");
    let mut desk = shared.desk();
    desk.failing = true;
    for account in batch.accounts {
        desk.books.touch(account.id);
    }
    let dirt = &mut desk.books.dirt;
    dirt.failed = number;
    dirt.keys.extend(batch.keys.iter().map(|key| key.id));
    // What was said since stands.
    dirt.limits.splice(0..0, batch.limits);
    dirt.settled.extend(batch.settled);
    dirt.gone_accounts.extend(batch.gone_accounts);
    dirt.gone_keys.extend(batch.gone_keys);
    dirt.flush |= batch.flush;
    let progress = Progress { durable: dirt.durable, failed: number, why: why.to_owned() };
    drop(desk);
    shared.publish(progress);
}
