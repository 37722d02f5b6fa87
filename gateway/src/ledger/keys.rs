//! Minting, revoking and listing keys.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, ToSpan as _};
use protocol::{
    QueueName, TaskId, Usd,
    ids::KeyName,
    keys::{KeyInfo, KeyLimits, KeyList, KeyState, KeyUsage, MintKey, MintOwnerKey, MintedKey},
};

use super::{
    Ledger, add_removed,
    books::{Books, Key, Who},
    pace::Pace,
};
use crate::virtual_key::KeyHash;

/// Keys are known for so long after their end, and a task's account for as long as one of its keys.
const KEPT: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Accounts of days are kept for so many.
const DAYS_KEPT: i32 = 90;

/// What a mint says of a key.
struct Wanted<'a> {
    who: Who,
    queue: Option<&'a QueueName>,
    expires_at: Timestamp,
    limits: &'a KeyLimits,
    task: Option<u64>,
}

impl Ledger {
    /// Mints a task's key, or mints it again: the same attempt gets the same key. A revoked one stays revoked.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn mint(&self, wanted: &MintKey) -> Result<MintedKey, String> {
        let name = format!("{}/{}", wanted.task, wanted.attempt);
        let (born, batch) = {
            let mut books = self.books();
            // Of before births were told, or revoked before it was minted: then it is this one.
            let born = match books.named(&name).map(|key| &key.who) {
                Some(Who::Attempt { born: None, .. }) => None,
                _ => wanted.born,
            };
            let (first, first_born) = match &wanted.first {
                Some(first) => (&first.task, first.born),
                None => (&wanted.task, wanted.born),
            };
            let account = books.account(&of_task(first, first_born), None, None);
            if let Some(entry) = books.accounts.get_mut(&account).filter(|entry| !entry.limit_set) {
                entry.set_limit(Some(wanted.budget_usd));
            }
            books.touch(account);
            let who = Who::Attempt { task: wanted.task.clone(), attempt: wanted.attempt, born };
            let key = self.maker.of_attempt(&wanted.task, wanted.attempt, born);
            let (queue, limits) = (Some(&wanted.queue), &wanted.limits);
            let wanted = Wanted { who, queue, expires_at: wanted.expires_at, limits, task: Some(account) };
            books.enter(KeyHash::of(key.expose()), &name, wanted);
            books.dirt.flush = true;
            (born, books.dirt.batch)
        };
        self.shared.durable(batch).await?;
        Ok(MintedKey { key: self.maker.of_attempt(&wanted.task, wanted.attempt, born) })
    }

    /// Mints a key of the owner's, or mints it again: the same name gets the same key. A revoked one stays so.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn mint_owner(&self, wanted: &MintOwnerKey) -> Result<MintedKey, String> {
        let key = self.maker.of_owner(&wanted.name);
        let batch = {
            let mut books = self.books();
            let said = Wanted {
                who: Who::Owner(wanted.name.clone()),
                queue: wanted.queue.as_ref(),
                expires_at: wanted.expires_at,
                limits: &wanted.limits,
                task: None,
            };
            let own = books.enter(KeyHash::of(key.expose()), wanted.name.as_str(), said);
            if let Some(entry) = books.accounts.get_mut(&own) {
                entry.set_limit(Some(wanted.budget_usd));
            }
            books.touch(own);
            books.dirt.flush = true;
            books.dirt.batch
        };
        self.shared.durable(batch).await?;
        Ok(MintedKey { key })
    }

    /// Revokes an attempt's key, also one that is not minted yet: it will never be valid.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn revoke(&self, task: &TaskId, attempt: u32) -> Result<KeyUsage, String> {
        let name = format!("{task}/{attempt}");
        let batch = {
            let mut books = self.books();
            let known = books.named(&name).map(|key| key.id);
            let id = known.unwrap_or_else(|| {
                let who = Who::Attempt { task: task.clone(), attempt, born: None };
                let hash = KeyHash::of(self.maker.of_attempt(task, attempt, None).expose());
                let (expires_at, limits) = (Timestamp::now(), &KeyLimits::default());
                books.enter(hash, &name, Wanted { who, queue: None, expires_at, limits, task: None });
                books.hashes.get(&hash).copied().unwrap_or_default()
            });
            books.revoke(id)
        };
        self.shared.durable(batch).await?;
        // Requests that wait for money are to hear it.
        self.settled();
        Ok(self.usage(task))
    }

    /// Revokes a key of the owner's; `None` where it was never minted.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn revoke_owner(&self, name: &KeyName) -> Result<Option<KeyInfo>, String> {
        let batch = {
            let mut books = self.books();
            let Some(id) = books.named(name.as_str()).map(|key| key.id) else { return Ok(None) };
            books.revoke(id)
        };
        self.shared.durable(batch).await?;
        self.settled();
        Ok(self.key(name.as_str()))
    }

    /// What a task's keys have used: nothing, where none is known.
    #[must_use]
    pub fn usage(&self, task: &TaskId) -> KeyUsage {
        let books = self.books();
        let of_task = |key: &&Key| matches!(&key.who, Who::Attempt { task: of, .. } if of == task);
        // Of a task that had this id before, nothing.
        let latest = books.keys.values().filter(of_task).max_by_key(|key| key.id);
        let Some(account) = latest.map(|key| key.task) else { return KeyUsage::default() };
        let keys =
            books.keys.values().filter(of_task).filter(|key| key.task == account || key.task.is_none());
        let mut sum = KeyUsage::default();
        for entry in keys.filter_map(|key| books.accounts.get(&key.own)) {
            add(&mut sum, &entry.usage());
        }
        sum
    }

    /// A key by its name: `TASK/ATTEMPT`, or the owner's.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<KeyInfo> {
        let books = self.books();
        books.named(name).map(|key| books.info(key, Timestamp::now()))
    }

    /// Every key that is known, the latest to end first.
    #[must_use]
    pub fn keys(&self) -> KeyList {
        let (books, now) = (self.books(), Timestamp::now());
        let mut keys: Vec<_> = books.keys.values().collect();
        keys.sort_by_key(|key| std::cmp::Reverse((key.expires_at, key.id)));
        KeyList { keys: keys.into_iter().map(|key| books.info(key, now)).collect() }
    }
}

/// The name of a task's account.
fn of_task(task: &TaskId, born: Option<Timestamp>) -> String {
    match born {
        Some(born) => format!("task:{task}@{}", born.as_microsecond()),
        None => format!("task:{task}"),
    }
}

fn add(sum: &mut KeyUsage, one: &KeyUsage) {
    sum.spent_usd = sum.spent_usd.saturating_add(one.spent_usd);
    sum.held_usd = sum.held_usd.saturating_add(one.held_usd);
    sum.requests += one.requests;
    sum.input_tokens = sum.input_tokens.saturating_add(one.input_tokens);
    sum.output_tokens = sum.output_tokens.saturating_add(one.output_tokens);
    for model in &one.models {
        if !sum.models.contains(model) {
            sum.models.push(model.clone());
        }
    }
    one.removed.iter().for_each(|(name, times)| add_removed(sum, name, *times));
}

impl Books {
    fn named(&self, name: &str) -> Option<&Key> {
        self.key_names.get(name).and_then(|id| self.keys.get(id))
    }

    /// Enters a key, or what is new of it. Its own account.
    fn enter(&mut self, hash: KeyHash, name: &str, wanted: Wanted<'_>) -> u64 {
        if let Some(key) = self.hashes.get(&hash).and_then(|id| self.keys.get_mut(id)) {
            key.expires_at = wanted.expires_at;
            key.limits = wanted.limits.clone();
            key.queue = wanted.queue.cloned();
            key.task = wanted.task;
            let (id, own) = (key.id, key.own);
            self.dirt.keys.push(id);
            return own;
        }
        // The id of a task that was removed, used again: nothing more is begun with the old one's key.
        if let Some(old) = self.key_names.get(name).copied() {
            self.revoke(old);
        }
        let id = self.fresh_id();
        let own = self.account(&own_name(name, &wanted.who), None, None);
        let name: Arc<str> = Arc::from(name);
        let key = Key {
            id,
            hash,
            name: Arc::clone(&name),
            who: wanted.who,
            own,
            task: wanted.task,
            queue: wanted.queue.cloned(),
            expires_at: wanted.expires_at,
            revoked: false,
            cut: false,
            limits: wanted.limits.clone(),
            pace: Pace::default(),
        };
        self.keys.insert(id, key);
        self.hashes.insert(hash, id);
        self.key_names.insert(name, id);
        self.dirt.keys.push(id);
        own
    }

    /// The batch that brings it to disk.
    fn revoke(&mut self, id: u64) -> u64 {
        if let Some(key) = self.keys.get_mut(&id) {
            key.revoked = true;
        }
        self.dirt.keys.push(id);
        self.dirt.flush = true;
        self.dirt.batch
    }

    fn info(&self, key: &Key, now: Timestamp) -> KeyInfo {
        let own = self.accounts.get(&key.own);
        let pays = self.accounts.get(&key.pays());
        let spent = pays.is_some_and(|entry| entry.money.unspent() == Usd::ZERO);
        let state = match (key.revoked, key.expires_at <= now, key.cut || spent) {
            (true, ..) => KeyState::Revoked,
            (_, true, _) => KeyState::Expired,
            (.., true) => KeyState::Spent,
            _ => KeyState::Active,
        };
        let shown = pays.map(|entry| entry.shown().to_owned());
        let repo = key.queue.as_ref().map(|queue| format!("repo:{queue}"));
        KeyInfo {
            id: key.name.to_string(),
            accounts: shown.into_iter().chain(repo).chain(["day".to_owned()]).collect(),
            budget_usd: pays.and_then(|entry| entry.money.limit),
            account_spent_usd: pays.map_or(Usd::ZERO, |entry| entry.money.spent),
            spent_usd: own.map_or(Usd::ZERO, |entry| entry.money.spent),
            held_usd: own.map_or(Usd::ZERO, |entry| entry.money.held),
            requests: own.map_or(0, |entry| entry.used.requests),
            expires_at: key.expires_at,
            state,
            limits: key.limits.clone(),
        }
    }

    /// Lets go of keys that ended long ago, of tasks' accounts without a key, and of days long past.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        let kept = now.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
        let idle = |id: u64| self.accounts.get(&id).is_none_or(|entry| entry.money.held == Usd::ZERO);
        let over = |key: &&Key| key.expires_at <= kept && idle(key.own);
        let gone: Vec<u64> = self.keys.values().filter(over).map(|key| key.id).collect();
        for id in gone {
            let Some(key) = self.keys.remove(&id) else { continue };
            self.hashes.remove(&key.hash);
            if self.key_names.get(&key.name) == Some(&id) {
                self.key_names.remove(&key.name);
            }
            self.dirt.gone_keys.push(id);
        }
        let needed: std::collections::HashSet<u64> =
            self.keys.values().flat_map(|key| [Some(key.own), key.task]).flatten().collect();
        let first_day = self.today.saturating_sub(DAYS_KEPT.days());
        let over = |entry: &&super::books::Entry| match entry.day {
            Some(day) => day < first_day,
            None => !needed.contains(&entry.id) && entry.money.held == Usd::ZERO,
        };
        let gone: Vec<u64> = self.accounts.values().filter(over).map(|entry| entry.id).collect();
        for id in gone {
            if let Some(entry) = self.accounts.remove(&id) {
                self.names.remove(&entry.name);
            }
            self.dirt.gone_accounts.push(id);
        }
    }
}

/// The name of a key's own account.
fn own_name(name: &str, who: &Who) -> String {
    match who {
        Who::Attempt { born: Some(born), .. } => format!("key:{name}@{}", born.as_microsecond()),
        _ => format!("key:{name}"),
    }
}
