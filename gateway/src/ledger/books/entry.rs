//! Keys and accounts, each by itself.

use std::sync::Arc;

use jiff::{Timestamp, civil::Date};
use protocol::{
    QueueName, TaskId, Usd,
    ids::KeyName,
    keys::{KeyLimits, KeyUsage},
};

use crate::{
    account::Account,
    ledger::{BadKey, pace::Pace},
    virtual_key::KeyHash,
};

use super::OPEN_BLOCK;

/// Accounts that one request charges.
pub(super) const PATH: usize = 4;

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ledger) enum Who {
    Attempt { task: TaskId, attempt: u32, born: Option<Timestamp> },
    Owner(KeyName),
}

/// A key, without its secret.
#[derive(Debug, Clone)]
pub(in crate::ledger) struct Key {
    pub(in crate::ledger) id: u64,
    pub(in crate::ledger) hash: KeyHash,
    /// `TASK/ATTEMPT`, or the owner's name.
    pub(in crate::ledger) name: Arc<str>,
    pub(in crate::ledger) who: Who,
    /// What it spends itself. For a key of the owner's also what limits it.
    pub(in crate::ledger) own: u64,
    /// The task's account; none for keys of the owner's, and where a revocation came before the mint.
    pub(in crate::ledger) task: Option<u64>,
    pub(in crate::ledger) queue: Option<QueueName>,
    pub(in crate::ledger) expires_at: Timestamp,
    pub(in crate::ledger) revoked: bool,
    /// An answer has passed its budget: nothing more is begun.
    pub(in crate::ledger) cut: bool,
    pub(in crate::ledger) limits: KeyLimits,
    pub(in crate::ledger) pace: Pace,
}

impl Key {
    pub(in crate::ledger) fn valid(&self, now: Timestamp) -> Result<(), BadKey> {
        match (self.revoked, self.expires_at <= now) {
            (true, _) => Err(BadKey::Revoked),
            (_, true) => Err(BadKey::Expired),
            _ => Ok(()),
        }
    }

    /// The account that its budget is of.
    pub(in crate::ledger) fn pays(&self) -> u64 {
        self.task.unwrap_or(self.own)
    }
}

/// An account, and how it stands on disk.
#[derive(Debug, Clone)]
pub(in crate::ledger) struct Entry {
    pub(in crate::ledger) id: u64,
    pub(in crate::ledger) name: String,
    pub(in crate::ledger) day: Option<Date>,
    pub(in crate::ledger) money: Account,
    /// Whether the owner has set the limit, so that a mint does not.
    pub(in crate::ledger) limit_set: bool,
    /// What the last row that was handed to the writer says is spent or promised at most.
    pub(in crate::ledger) covered: Usd,
    /// What is known to be so on disk, after whatever end.
    pub(super) safe: Usd,
    /// The batch that brings `covered` to disk.
    pub(super) batch: u64,
    /// The most that was used since `covered` was last looked at.
    pub(super) peak: Usd,
    pub(super) block: Usd,
    /// The mark that was told last.
    pub(in crate::ledger) told: u8,
    /// Of a key's own account: what was charged for.
    pub(in crate::ledger) used: KeyUsage,
    pub(in crate::ledger) dirty: bool,
}

impl Entry {
    pub(in crate::ledger) fn new(id: u64, name: String, day: Option<Date>) -> Self {
        Self {
            id,
            name,
            day,
            money: Account::default(),
            limit_set: false,
            covered: Usd::ZERO,
            safe: Usd::ZERO,
            batch: 0,
            peak: Usd::ZERO,
            block: OPEN_BLOCK,
            told: 0,
            used: KeyUsage::default(),
            dirty: false,
        }
    }

    /// As it is on disk.
    pub(in crate::ledger) const fn stored(mut self, covered: Usd) -> Self {
        self.covered = covered;
        self.safe = covered;
        self
    }

    /// The name that people see: without birth or day.
    pub(in crate::ledger) fn shown(&self) -> &str {
        self.name.split_once('@').map_or(&self.name, |(name, _)| name)
    }

    /// What was charged, with the sums of now.
    pub(in crate::ledger) fn usage(&self) -> KeyUsage {
        KeyUsage { spent_usd: self.money.spent, held_usd: self.money.held, ..self.used.clone() }
    }

    pub(in crate::ledger) fn set_limit(&mut self, limit: Option<Usd>) {
        self.money.limit = limit;
        self.told = self.told.min(self.money.mark());
    }
}

/// The accounts of one request, the narrowest first.
#[derive(Debug, Clone, Copy)]
pub(in crate::ledger) struct Path {
    ids: [u64; PATH],
    len: usize,
}

impl Path {
    pub(super) fn of(parts: [Option<u64>; PATH]) -> Self {
        let mut path = Self { ids: [0; PATH], len: 0 };
        for id in parts.into_iter().flatten() {
            path.ids[path.len] = id;
            path.len += 1;
        }
        path
    }

    pub(in crate::ledger) fn ids(&self) -> &[u64] {
        &self.ids[..self.len]
    }
}
