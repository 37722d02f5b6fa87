//! What the owner sees and sets of accounts.

use jiff::Timestamp;
use protocol::{
    TaskId,
    keys::{BudgetInfo, BudgetList, BudgetScope, SetBudget},
};

use super::{
    Ledger,
    books::{Books, Entry, Who},
};

impl Ledger {
    /// Today's accounts, and those of keys that are valid.
    #[must_use]
    pub fn budgets(&self) -> BudgetList {
        let (mut books, now) = (self.books(), Timestamp::now());
        books.turn(now);
        let today = books.today;
        books.of_day("day", today);
        let live = books.keys.values().filter(|key| key.valid(now).is_ok()).map(super::books::Key::pays);
        let live: std::collections::HashSet<u64> = live.collect();
        let shown = |entry: &&Entry| entry.day == Some(today) || live.contains(&entry.id);
        let mut entries: Vec<&Entry> = books.accounts.values().filter(shown).collect();
        entries.sort_by_key(|entry| (rank(entry), entry.name.clone()));
        BudgetList { budgets: entries.into_iter().map(info).collect() }
    }

    /// Sets or lifts a limit; `None` where the task has no account.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn set_budget(&self, set: &SetBudget) -> Result<Option<BudgetInfo>, String> {
        let (batch, info) = {
            let mut books = self.books();
            books.turn(Timestamp::now());
            let Some(id) = books.set(set) else { return Ok(None) };
            books.dirt.flush = true;
            let Some(entry) = books.accounts.get(&id) else { return Ok(None) };
            (books.dirt.batch, info(entry))
        };
        self.shared.durable(batch).await?;
        // Who waits may have enough now.
        self.settled();
        Ok(Some(info))
    }
}

/// The widest first.
fn rank(entry: &Entry) -> u8 {
    ["day", "repo:", "task:"].iter().position(|kind| entry.name.starts_with(kind)).map_or(3, |at| at as u8)
}

fn info(entry: &Entry) -> BudgetInfo {
    BudgetInfo {
        account: entry.shown().to_owned(),
        day: entry.day,
        limit_usd: entry.money.limit,
        spent_usd: entry.money.spent,
        held_usd: entry.money.held,
    }
}

impl Books {
    fn set(&mut self, set: &SetBudget) -> Option<u64> {
        let scope = match &set.scope {
            BudgetScope::Day => "day".to_owned(),
            BudgetScope::Repo(name) => format!("repo:{name}"),
            BudgetScope::Task(task) => {
                let id = self.account_of(task)?;
                let entry = self.accounts.get_mut(&id)?;
                entry.limit_set = true;
                entry.set_limit(set.limit_usd);
                self.touch(id);
                self.mend(id);
                return Some(id);
            }
        };
        self.limits.insert(scope.clone(), set.limit_usd);
        self.dirt.limits.push((scope.clone(), set.limit_usd));
        let id = self.of_day(&scope, self.today);
        if let Some(entry) = self.accounts.get_mut(&id) {
            entry.set_limit(set.limit_usd);
        }
        self.touch(id);
        Some(id)
    }

    /// The account of the latest task of this id.
    fn account_of(&self, task: &TaskId) -> Option<u64> {
        let of_task = |who: &Who| matches!(who, Who::Attempt { task: of, .. } if of == task);
        self.keys.values().filter(|key| of_task(&key.who)).max_by_key(|key| key.id)?.task
    }

    /// An answer had passed the budget that was: with this one more may be begun.
    fn mend(&mut self, account: u64) {
        for key in self.keys.values_mut().filter(|key| key.cut && key.task == Some(account)) {
            key.cut = false;
            self.dirt.keys.push(key.id);
        }
    }
}
