//! Keys and accounts in memory: every decision is made here, under one lock, and none of it waits.
//!
//! Invariant: `safe`, which is on disk for good, is never less than what an account has spent and promised
//! to requests that may have been sent.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use protocol::{
    QueueName, Usd,
    keys::{KeyUsage, Notice},
};

use super::{
    answers::{BadKey, Growth, NoMoney, Unflushed},
    dirt::Dirt,
};
use crate::{
    account::{Account, Ask, Charge, Grant, MARKS, decide_path},
    virtual_key::KeyHash,
};

mod cover;
mod entry;

use entry::PATH;
pub(super) use entry::{Entry, Key, Path, Who};

/// Notices that are kept for who asks late.
const NOTICES: usize = 1_000;
/// Raised by this where the account that pays has no limit.
const OPEN_BLOCK: Usd = Usd::from_nanos(1_000_000_000);

/// Money that a request has got.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) key: u64,
    pub(super) day: Date,
    pub(super) path: Path,
    pub(super) grant: Grant,
    pub(super) slot: u32,
    pub(super) seq: u64,
    /// The batch that must be on disk before anything is sent.
    pub(super) after: Option<u64>,
}

/// Why not, and whether others that end may change it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: NoMoney,
    pub(super) in_the_end: bool,
}

impl<E: Into<NoMoney>> From<E> for Refused {
    fn from(why: E) -> Self {
        Self { why: why.into(), in_the_end: false }
    }
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) accounts: HashMap<u64, Entry>,
    pub(super) names: HashMap<String, u64>,
    pub(super) keys: HashMap<u64, Key>,
    pub(super) hashes: HashMap<KeyHash, u64>,
    pub(super) key_names: HashMap<Arc<str>, u64>,
    /// What the owner has set for `day` and `repo:NAME`, and what stands where nothing is set.
    pub(super) limits: HashMap<String, Option<Usd>>,
    pub(super) usual: DayLimits,
    pub(super) today: Date,
    /// The end of `today`, in seconds of Unix.
    pub(super) midnight: i64,
    /// The accounts of `today`.
    pub(super) day: Option<u64>,
    pub(super) repos: HashMap<QueueName, u64>,
    pub(super) next_id: u64,
    pub(super) dirt: Dirt,
    pub(super) notices: VecDeque<Notice>,
    pub(super) next_notice: u64,
}

/// What a day may cost where the owner has set nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DayLimits {
    /// All together.
    pub day: Option<Usd>,
    /// One repository.
    pub repo: Option<Usd>,
}

/// The day of UTC that a moment is in.
pub(super) fn day_of(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

impl Books {
    /// Nothing at all, on this day.
    pub(super) fn empty(now: Timestamp) -> Self {
        let mut books = Self {
            accounts: HashMap::new(),
            names: HashMap::new(),
            keys: HashMap::new(),
            hashes: HashMap::new(),
            key_names: HashMap::new(),
            limits: HashMap::new(),
            usual: DayLimits::default(),
            today: Date::default(),
            midnight: 0,
            day: None,
            repos: HashMap::new(),
            next_id: 0,
            dirt: Dirt::after(0),
            notices: VecDeque::new(),
            next_notice: 1,
        };
        books.turn(now);
        books
    }

    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The account of this name, made where there is none.
    pub(super) fn account(&mut self, name: &str, day: Option<Date>, limit: Option<Usd>) -> u64 {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let id = self.fresh_id();
        let mut entry = Entry::new(id, name.to_owned(), day);
        entry.money.limit = limit;
        self.accounts.insert(id, entry);
        self.names.insert(name.to_owned(), id);
        self.touch(id);
        id
    }

    /// The account's row is to be written.
    pub(super) fn touch(&mut self, id: u64) {
        let Some(entry) = self.accounts.get_mut(&id) else { return };
        if !std::mem::replace(&mut entry.dirty, true) {
            self.dirt.accounts.push(id);
        }
    }

    /// What limits a day's account.
    pub(super) fn limit_of(&self, scope: &str) -> Option<Usd> {
        let usual = if scope == "day" { self.usual.day } else { self.usual.repo };
        self.limits.get(scope).copied().unwrap_or(usual)
    }

    /// Turns the page where a day has begun, and lets go of what is long past.
    pub(super) fn turn(&mut self, now: Timestamp) {
        if now.as_second() < self.midnight && now.as_second() >= self.midnight - 86_400 {
            return;
        }
        self.today = day_of(now);
        self.midnight = (now.as_second().div_euclid(86_400) + 1) * 86_400;
        self.day = None;
        self.repos.clear();
        self.sweep(now);
    }

    /// The account of a day, or of a repository's: `day` or `repo:NAME`.
    pub(super) fn of_day(&mut self, scope: &str, day: Date) -> u64 {
        let limit = self.limit_of(scope);
        self.account(&format!("{scope}@{day}"), Some(day), limit)
    }

    /// What a request of this key charges today.
    fn path(&mut self, key: u64) -> Path {
        let known = self.keys.get(&key).and_then(|found| {
            let repo = found.queue.as_ref().map(|queue| self.repos.get(queue).copied());
            // Of two optional parts, the one that there is must be known.
            if repo == Some(None) {
                return None;
            }
            Some(Path::of([Some(found.own), found.task, repo.flatten(), Some(self.day?)]))
        });
        known.unwrap_or_else(|| self.path_of(key, self.today))
    }

    /// What a request of this key charges on a day.
    pub(super) fn path_of(&mut self, key: u64, day: Date) -> Path {
        let Some(found) = self.keys.get(&key) else {
            // Its row is gone, and the day is still to be charged.
            return Path::of([Some(self.of_day("day", day)), None, None, None]);
        };
        let (own, task, queue) = (found.own, found.task, found.queue.clone());
        let repo = queue.as_ref().map(|queue| self.of_day(&format!("repo:{queue}"), day));
        let all = self.of_day("day", day);
        if day == self.today {
            self.day = Some(all);
            self.repos.extend(queue.zip(repo));
        }
        Path::of([Some(own), task, repo, Some(all)])
    }

    /// Limits of today as they are set and configured now.
    pub(super) fn limit_days(&mut self) {
        let of_today = |entry: &&Entry| entry.day == Some(self.today);
        let todays: Vec<_> = self.accounts.values().filter(of_today).map(|entry| entry.id).collect();
        for id in todays {
            let Some(limit) = self.accounts.get(&id).map(|entry| self.limit_of(entry.shown())) else {
                continue;
            };
            if let Some(entry) = self.accounts.get_mut(&id).filter(|entry| entry.money.limit != limit) {
                entry.set_limit(limit);
                self.touch(id);
            }
        }
    }

    /// Holds what a request may cost, or says why not.
    pub(super) fn hold(&mut self, key: u64, model: &str, ask: &Ask, now: Timestamp) -> Result<Hold, Refused> {
        self.turn(now);
        let found = self.keys.get_mut(&key).ok_or(BadKey::Unknown)?;
        // Under the lock: after a revocation has answered, its key holds nothing new.
        found.valid(now)?;
        if found.cut {
            return Err(NoMoney::Cut.into());
        }
        found.pace.allows(&found.limits, model, now.as_second())?;
        let path = self.path(key);
        let mut moneys = [Account::default(); PATH];
        for (at, id) in path.ids().iter().enumerate() {
            moneys[at] = self.accounts.get(id).map_or_else(Account::default, |entry| entry.money);
        }
        let grant = decide_path(&moneys[..path.ids().len()], ask).map_err(|short| {
            let (money, entry) = (moneys[short.at], self.accounts.get(&path.ids()[short.at]));
            let why = NoMoney::Spent {
                account: entry.map_or_else(String::new, |entry| entry.shown().to_owned()),
                limit: money.limit.unwrap_or_default(),
                spent: money.spent,
            };
            Refused { why, in_the_end: short.in_the_end }
        })?;
        if let Some(found) = self.keys.get_mut(&key) {
            found.pace.begins(&found.limits, now.as_second());
        }
        self.promise(path, grant.amount);
        let after = self.cover(key, path);
        let (slot, seq) = self.dirt.slot();
        Ok(Hold { key, day: self.today, path, grant, slot, seq, after })
    }

    /// Makes a hold larger, if every account affords it.
    pub(super) fn grow(&mut self, key: u64, path: Path, more: Usd) -> Growth {
        let affords = |id: &u64| self.accounts.get(id).is_some_and(|entry| entry.money.free() >= more);
        if !path.ids().iter().all(affords) {
            return Growth::Refused;
        }
        self.promise(path, more);
        Growth::Granted(self.cover(key, path).map(Unflushed))
    }

    /// Gives a hold back and charges what became of it; whether an account has passed a mark, and what must be on
    /// disk where the charge is more than the hold.
    pub(super) fn settle(
        &mut self,
        hold: &Hold,
        charge: &Charge,
        model: &str,
        now: Timestamp,
    ) -> (bool, Option<Unflushed>) {
        let mut passed = false;
        for (at, id) in hold.path.ids().iter().enumerate() {
            let Some(entry) = self.accounts.get_mut(id) else { continue };
            entry.money.settle(hold.grant.amount, charge.amount);
            if at == 0 {
                count(&mut entry.used, charge, model);
            }
            if charge.amount > Usd::ZERO || charge.reached_model {
                self.touch(*id);
                passed |= self.tell(*id, hold.key);
            }
        }
        if let Some(key) = self.keys.get_mut(&hold.key) {
            let tokens = charge.tokens.input_total().saturating_add(charge.tokens.output);
            key.pace.ends(&key.limits, tokens, now.as_second());
        }
        let more = charge.amount > hold.grant.amount;
        (passed, if more { self.cover(hold.key, hold.path).map(Unflushed) } else { None })
    }

    /// Nothing more is begun with this key.
    pub(super) fn cut(&mut self, key: u64) {
        if let Some(found) = self.keys.get_mut(&key) {
            found.cut = true;
            self.dirt.keys.push(key);
        }
    }

    /// Tells of each mark that this account has passed since the last; whether there is one.
    fn tell(&mut self, account: u64, key: u64) -> bool {
        let Some(entry) = self.accounts.get_mut(&account) else { return false };
        let (mark, Some(limit)) = (entry.money.mark(), entry.money.limit) else { return false };
        if mark <= entry.told {
            return false;
        }
        let told = std::mem::replace(&mut entry.told, mark);
        let task = self.keys.get(&key).and_then(|key| match &key.who {
            Who::Attempt { task, .. } => Some(task.clone()),
            Who::Owner(_) => None,
        });
        for percent in MARKS.into_iter().filter(|percent| (told + 1..=mark).contains(percent)) {
            self.notices.push_back(Notice {
                seq: self.next_notice,
                task: task.clone(),
                account: entry.shown().to_owned(),
                percent,
                spent_usd: entry.money.spent,
                budget_usd: limit,
            });
            self.next_notice += 1;
        }
        while self.notices.len() > NOTICES {
            self.notices.pop_front();
        }
        true
    }
}

/// Counts a request into what a key has used.
pub(super) fn count(used: &mut KeyUsage, charge: &Charge, model: &str) {
    used.input_tokens = used.input_tokens.saturating_add(charge.tokens.input_total());
    used.output_tokens = used.output_tokens.saturating_add(charge.tokens.output);
    if charge.reached_model {
        used.requests += 1;
        if !used.models.iter().any(|known| known == model) {
            used.models.push(model.to_owned());
        }
    }
}
