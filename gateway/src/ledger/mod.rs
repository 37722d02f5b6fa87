//! The ledger: who may spend how much, and what was spent. Decisions are made in memory under one mutex;
//! what they change is on disk before money is risked (a reservation) and soon after it is known (a charge).
//!
//! Invariant: `held` on disk is never less than what requests under way may cost, so a crash can only
//! charge too much, never too little; holds that are found at start are charged in full.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use protocol::{
    Secret, TaskId, Usd,
    keys::{KeyUsage, MintKey, MintedKey},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    account::{Account, Ask, decide},
    virtual_key::{KeyHash, KeyMaker},
};

mod answers;
mod reservation;
mod store;
mod writer;

pub use answers::{BadKey, Balance, Holder, NoMoney};
pub use reservation::Reservation;
pub use store::StoreError;
use store::{KeyRow, Row, Store};
use writer::Writer;

/// How long a request waits for others of its account to give back what they hold, before it is refused.
pub const WAIT_FOR_HOLDS: Duration = Duration::from_secs(60);

/// The gateway's accounts and keys.
#[derive(Debug)]
pub struct Ledger {
    maker: KeyMaker,
    state: Mutex<State>,
    writer: Writer,
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    accounts: HashMap<String, Account>,
    keys: HashMap<KeyHash, KeyRow>,
}

impl State {
    /// A key's row, if the key opens the door now.
    fn valid(&self, key: &KeyHash, now: Timestamp) -> Result<&KeyRow, BadKey> {
        let row = self.keys.get(key).ok_or(BadKey::Unknown)?;
        if row.revoked {
            return Err(BadKey::Revoked);
        }
        if row.expires_at <= now {
            return Err(BadKey::Expired);
        }
        Ok(row)
    }
}

impl Ledger {
    /// Opens the ledger's file, or makes it (0600), and charges the holds that a crash left.
    ///
    /// # Errors
    /// [`StoreError`], where the file cannot be opened, or is of another version.
    pub fn open(path: &Path) -> Result<Arc<Self>, StoreError> {
        let mut store = Store::open(path)?;
        let loaded = store.load()?;
        let mut state = State {
            accounts: loaded.accounts.into_iter().collect(),
            keys: loaded.keys.into_iter().map(|row| (row.hash, row)).collect(),
        };
        let mut charged = Vec::new();
        for (name, account) in &mut state.accounts {
            if account.held > Usd::ZERO {
                tracing::warn!(account = %name, held = %account.held, "charging what was held at the last end");
                account.charge_holds();
                charged.push(Row::Account(name.clone(), account.clone()));
            }
        }
        store.write(&charged)?;
        let maker = KeyMaker::new(loaded.secret);
        let writer = Writer::start(store)?;
        Ok(Arc::new(Self { maker, state: Mutex::new(state), writer, settled: Notify::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mints a key, or mints it again: the same attempt gets the same key. A revoked one stays revoked.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn mint(&self, wanted: &MintKey) -> Result<MintedKey, String> {
        let key = self.maker.make(&wanted.task, wanted.attempt);
        let hash = KeyHash::of(key.expose());
        let written = {
            let mut state = self.state();
            let revoked = state.keys.get(&hash).is_some_and(|row| row.revoked);
            let row = KeyRow {
                hash,
                task: wanted.task.clone(),
                attempt: wanted.attempt,
                expires_at: wanted.expires_at,
                revoked,
            };
            state.keys.insert(hash, row.clone());
            let account = state.accounts.entry(wanted.task.to_string()).or_default();
            account.budget = wanted.budget_usd;
            let rows = vec![Row::Account(wanted.task.to_string(), account.clone()), Row::Key(row)];
            self.writer.write(rows)
        };
        written.await?;
        Ok(MintedKey { key })
    }

    /// Revokes an attempt's key, also one that is not minted yet: it will never be valid.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn revoke(&self, task: &TaskId, attempt: u32) -> Result<KeyUsage, String> {
        let hash = KeyHash::of(self.maker.make(task, attempt).expose());
        let written = {
            let mut state = self.state();
            let row = state.keys.entry(hash).or_insert_with(|| KeyRow {
                hash,
                task: task.clone(),
                attempt,
                expires_at: Timestamp::now(),
                revoked: true,
            });
            row.revoked = true;
            self.writer.write(vec![Row::Key(row.clone())])
        };
        written.await?;
        // Requests that wait for money are to hear it.
        self.settled.notify_waiters();
        Ok(self.usage(task))
    }

    /// What a task's keys have used: nothing, where none was ever minted.
    #[must_use]
    pub fn usage(&self, task: &TaskId) -> KeyUsage {
        let state = self.state();
        let Some(account) = state.accounts.get(task.as_str()) else { return KeyUsage::default() };
        KeyUsage { held_usd: account.held, ..account.used.clone() }
    }

    /// Whose key this is.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn holder(&self, key: &Secret, now: Timestamp) -> Result<Holder, BadKey> {
        let key = KeyHash::of(key.expose());
        let state = self.state();
        let row = state.valid(&key, now)?;
        Ok(Holder { task: row.task.clone(), expires_at: row.expires_at, key })
    }

    /// A holder's balance.
    #[must_use]
    pub fn balance(&self, holder: &Holder) -> Balance {
        let account = self.state().accounts.get(holder.task.as_str()).cloned().unwrap_or_default();
        Balance {
            task: holder.task.clone(),
            budget_usd: account.budget,
            spent_usd: account.used.spent_usd,
            held_usd: account.held,
            expires_at: holder.expires_at,
        }
    }

    /// Reserves what a request may cost; on disk when this returns. Where only other requests' holds stand
    /// in the way, it waits for them (at most [`WAIT_FOR_HOLDS`]): they usually turn out cheaper. The key must
    /// still be valid then.
    ///
    /// # Errors
    /// [`NoMoney`].
    pub async fn reserve(
        self: &Arc<Self>,
        holder: &Holder,
        model: &str,
        ask: &Ask,
    ) -> Result<Reservation, NoMoney> {
        let deadline = Instant::now() + WAIT_FOR_HOLDS;
        let (grant, written) = loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            match self.try_reserve(holder, ask) {
                Ok(reserved) => break reserved,
                Err((refusal, in_the_end)) => {
                    let waited = match in_the_end {
                        true => tokio::time::timeout_at(deadline, settled).await.is_ok(),
                        false => false,
                    };
                    if !waited {
                        return Err(refusal);
                    }
                }
            }
        };
        let reservation =
            Reservation::new(Arc::clone(self), holder.task.to_string(), model.to_owned(), grant);
        written.await.map_err(NoMoney::Storage)?;
        Ok(reservation)
    }

    /// Holds the money, or says why not, and whether there would be enough if nothing were held.
    fn try_reserve(
        &self,
        holder: &Holder,
        ask: &Ask,
    ) -> Result<(crate::account::Grant, writer::Written), (NoMoney, bool)> {
        let mut state = self.state();
        // Under the lock: after a revocation has answered, its key holds nothing new.
        state.valid(&holder.key, Timestamp::now()).map_err(|bad| (bad.into(), false))?;
        let account = state.accounts.entry(holder.task.to_string()).or_default();
        let Some(grant) = decide(account.free(), ask) else {
            let in_the_end = decide(account.unspent(), ask).is_some();
            let refusal = NoMoney::Spent { budget: account.budget, spent: account.used.spent_usd };
            return Err((refusal, in_the_end));
        };
        account.held = account.held.saturating_add(grant.amount);
        let rows = vec![Row::Account(holder.task.to_string(), account.clone())];
        Ok((grant, self.writer.write(rows)))
    }

    /// Waits until all that was decided is on disk. For the end of the program.
    pub async fn flush(&self) {
        if let Err(why) = self.writer.write(Vec::new()).await {
            tracing::error!("the ledger's last writes failed: {why}");
        }
    }
}

#[cfg(test)]
mod tests;
