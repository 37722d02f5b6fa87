//! The ledger: who may spend how much, and what was spent. Decisions are made in memory under one lock. What
//! must outlive the program is in the slots' file before a request goes out, and what must outlive the
//! machine is covered in the database: usually both cost no flush (docs/decisions/0042).

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use protocol::{Secret, Usd, keys::KeyUsage, limits::REMOVED_NAMES};
use tokio::{sync::Notify, time::Instant};

use crate::{
    account::Ask,
    virtual_key::{KeyHash, KeyMaker},
};

mod answers;
mod books;
mod budgets;
mod dirt;
mod keys;
mod notices;
mod pace;
mod recover;
mod reservation;
mod slots;
mod store;
mod writer;

pub use answers::{BadKey, Balance, Growth, Holder, NoMoney, Unflushed};
pub use books::DayLimits;
use books::{Hold, Refused};
pub use reservation::Reservation;
use slots::Slots;
pub use store::StoreError;
use store::{Batch, Store};
use writer::{Open, Shared, Writer};

/// How long a request waits for others of its accounts to give back what they hold, before it is refused.
pub const WAIT_FOR_HOLDS: Duration = Duration::from_secs(60);
/// Changes whenever the machine starts.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The gateway's accounts and keys.
#[derive(Debug)]
pub struct Ledger {
    maker: KeyMaker,
    shared: Arc<Shared>,
    slots: Slots,
    settled: Notify,
    /// Requests that wait for `settled`.
    waiting: AtomicUsize,
    told: Notify,
    /// Last: it is to write what the others leave.
    _writer: Writer,
}

impl Ledger {
    /// Opens the ledger's file and the one of its slots, or makes them (0600), and charges what a crash left
    /// open.
    ///
    /// # Errors
    /// [`StoreError`], where a file cannot be opened, or is of another version.
    pub fn open(path: &Path, usual: DayLimits) -> Result<Arc<Self>, StoreError> {
        // Where the machine has no such file nothing can be known: it counts as another boot.
        let boot = std::fs::read_to_string(BOOT).unwrap_or_else(|_| uuid::Uuid::new_v4().to_string());
        Self::open_in(path, usual, boot.trim())
    }

    fn open_in(path: &Path, usual: DayLimits, boot: &str) -> Result<Arc<Self>, StoreError> {
        let mut store = Store::open(path)?;
        let slots_path = path.with_extension("holds");
        let fault = |error| StoreError::File { path: slots_path.display().to_string(), error };
        let slots = Slots::open(&slots_path).map_err(fault)?;
        let noted = slots.read().map_err(fault)?;
        let loaded = store.load()?;
        let maker = KeyMaker::new(loaded.secret);
        let same_boot = loaded.boot.as_deref().is_none_or(|last| last == boot);
        let found = recover::Found { loaded, slots: &noted, same_boot };
        let now = Timestamp::now();
        let mut books = recover::recover(found, usual, now);
        books.sweep(now);
        let (_, batch) = writer::take(&mut books);
        // What the slots say is charged with this, and said to be: a crash before they are reset charges nothing twice.
        let over = slots::notes(&noted).filter_map(|(slot, note)| Some((slot, note?.seq))).collect();
        store.begin(boot, &Batch { settled: over, ..batch })?;
        slots.reset().map_err(fault)?;
        let shared = Shared::new(books);
        let writer = Writer::start(&shared, store)?;
        Ok(Arc::new(Self {
            maker,
            shared,
            slots,
            settled: Notify::new(),
            waiting: AtomicUsize::new(0),
            told: Notify::new(),
            _writer: writer,
        }))
    }

    fn books(&self) -> Open<'_> {
        self.shared.open()
    }

    /// Whose key this is.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn holder(&self, key: &Secret, now: Timestamp) -> Result<Holder, BadKey> {
        let hash = KeyHash::of(key.expose());
        let books = self.books();
        let key = books.hashes.get(&hash).and_then(|id| books.keys.get(id)).ok_or(BadKey::Unknown)?;
        key.valid(now)?;
        Ok(Holder { name: Arc::clone(&key.name), expires_at: key.expires_at, key: key.id })
    }

    /// A holder's balance.
    #[must_use]
    pub fn balance(&self, holder: &Holder) -> Balance {
        let books = self.books();
        let pays = books.keys.get(&holder.key).and_then(|key| books.accounts.get(&key.pays()));
        Balance {
            account: pays.map_or_else(String::new, |entry| entry.shown().to_owned()),
            budget_usd: pays.and_then(|entry| entry.money.limit),
            spent_usd: pays.map_or(Usd::ZERO, |entry| entry.money.spent),
            held_usd: pays.map_or(Usd::ZERO, |entry| entry.money.held),
            expires_at: holder.expires_at,
        }
    }

    /// Counts what was taken out of a holder's request.
    pub fn count_removed(&self, holder: &Holder, names: &[String]) {
        let mut books = self.books();
        let Some(own) = books.keys.get(&holder.key).map(|key| key.own) else { return };
        if let Some(entry) = books.accounts.get_mut(&own) {
            names.iter().for_each(|name| add_removed(&mut entry.used, name, 1));
            books.touch(own);
        }
    }

    /// Reserves what a request may cost; safe against whatever end when this returns. Where only other
    /// requests' holds stand in the way, it waits for them (at most [`WAIT_FOR_HOLDS`]): they usually turn out
    /// cheaper. The key must still be valid then.
    ///
    /// # Errors
    /// [`NoMoney`].
    pub async fn reserve(
        self: &Arc<Self>,
        holder: &Holder,
        model: &str,
        ask: &Ask,
    ) -> Result<Reservation, NoMoney> {
        let hold = match self.hold(holder, model, ask) {
            Ok(hold) => hold,
            Err(Refused { why, in_the_end: false }) => return Err(why),
            Err(_) => {
                let _here = Waits::new(&self.waiting);
                self.wait_for_holds(holder, model, ask).await?
            }
        };
        let after = hold.after;
        let reservation = Reservation::new(Arc::clone(self), hold, model.to_owned());
        reservation.note(None).map_err(NoMoney::Storage)?;
        if let Some(batch) = after {
            self.shared.durable(batch).await.map_err(NoMoney::Storage)?;
        }
        Ok(reservation)
    }

    fn hold(&self, holder: &Holder, model: &str, ask: &Ask) -> Result<Hold, Refused> {
        self.books().hold(holder.key, model, ask, Timestamp::now())
    }

    async fn wait_for_holds(&self, holder: &Holder, model: &str, ask: &Ask) -> Result<Hold, NoMoney> {
        let deadline = Instant::now() + WAIT_FOR_HOLDS;
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            match self.hold(holder, model, ask) {
                Ok(hold) => return Ok(hold),
                Err(Refused { why, in_the_end }) => {
                    if !in_the_end || tokio::time::timeout_at(deadline, settled).await.is_err() {
                        return Err(why);
                    }
                }
            }
        }
    }

    /// Something was given back, or is not to be had any more.
    fn settled(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.settled.notify_waiters();
        }
    }

    /// Waits until it is on disk.
    ///
    /// # Errors
    /// Why the disk does not take it.
    pub async fn flushed(self: Arc<Self>, unflushed: Unflushed) -> Result<(), String> {
        self.shared.durable(unflushed.0).await
    }

    /// Waits until all that was decided is on disk, and nothing more than it is covered. For the end of the
    /// program.
    pub async fn flush(&self) {
        let batch = {
            let mut books = self.books();
            books.close();
            books.dirt.batch
        };
        if let Err(why) = self.shared.durable(batch).await {
            tracing::error!("the ledger's last writes failed: {why}");
        }
    }
}

/// One that waits, until it is dropped.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts something that was taken out.
fn add_removed(used: &mut KeyUsage, name: &str, times: u64) {
    let full = used.removed.len() >= REMOVED_NAMES && !used.removed.contains_key(name);
    let name = if full { "other" } else { name };
    let count = used.removed.entry(name.to_owned()).or_default();
    *count = count.saturating_add(times);
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
