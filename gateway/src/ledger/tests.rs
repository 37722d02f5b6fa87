use std::{path::Path, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use protocol::{
    Usd,
    keys::{BudgetScope, FirstTask, KeyLimits, KeyState, MintKey, MintOwnerKey, SetBudget},
};

use super::{BadKey, DayLimits, Growth, Holder, Ledger, NoMoney, Reservation};
use crate::{account::Ask, prices::Rates, tokens::Tokens};

pub(super) const ASK: Ask = Ask {
    input_bound: 0,
    output_wanted: 1_000,
    output_floor: 1_000,
    rates: Rates { input: 0, cache_write_5m: 0, cache_write_1h: 0, cache_read: 0, output: 1_000_000 },
};
/// What `ASK` costs.
const PRICE: Usd = Usd::from_nanos(1_000_000);

pub(super) fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

pub(super) fn key_for(task: &str, budget: Usd) -> MintKey {
    MintKey {
        task: task.parse().unwrap(),
        born: None,
        attempt: 1,
        first: None,
        queue: "q".parse().unwrap(),
        budget_usd: budget,
        expires_at: Timestamp::MAX,
        limits: KeyLimits::default(),
    }
}

pub(super) async fn holder(ledger: &Ledger, key: &MintKey) -> Holder {
    let key = ledger.mint(key).await.unwrap().key;
    ledger.holder(&key, Timestamp::now()).unwrap()
}

/// A ledger with a key of one dollar.
async fn ledger() -> (Arc<Ledger>, Holder, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder.path().join("gateway.db"), "here");
    let holder = holder(&ledger, &key_for("t", usd("1.00"))).await;
    (ledger, holder, folder)
}

pub(super) fn open(path: &Path, boot: &str) -> Arc<Ledger> {
    Ledger::open_in(path, DayLimits::default(), boot).unwrap()
}

/// What the disk would show if the program were killed now.
pub(super) fn killed(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["gateway.db", "gateway.db-wal", "gateway.holds"] {
        std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

fn spent(ledger: &Ledger, account: &str) -> Usd {
    let books = ledger.books();
    let of = books.accounts.values().filter(|entry| entry.shown() == account);
    of.fold(Usd::ZERO, |sum, entry| sum.saturating_add(entry.money.spent))
}

impl Ledger {
    /// Waits until all that was decided is in the database.
    pub(super) async fn stored(&self) {
        let batch = {
            let mut books = self.books();
            books.dirt.flush = true;
            books.dirt.batch
        };
        self.shared.durable(batch).await.unwrap();
        while !self.books().dirt.settled.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

impl super::Shared {
    /// The last batch that was flushed.
    pub(super) fn flushes(&self) -> u64 {
        self.open().dirt.durable
    }
}

fn pay(reservation: Reservation) {
    reservation.settle(PRICE, Tokens::default());
}

#[tokio::test]
async fn a_reservation_that_is_dropped_is_given_back_unless_something_was_sent() {
    let (ledger, holder, _folder) = ledger().await;
    drop(ledger.reserve(&holder, "m", &ASK).await.unwrap());
    let balance = ledger.balance(&holder);
    assert_eq!((balance.held_usd, balance.spent_usd), (Usd::ZERO, Usd::ZERO));
    let mut reservation = ledger.reserve(&holder, "m", &ASK).await.unwrap();
    assert_eq!(ledger.balance(&holder).held_usd, PRICE);
    reservation.sending();
    drop(reservation);
    let balance = ledger.balance(&holder);
    assert_eq!((balance.held_usd, balance.spent_usd), (Usd::ZERO, PRICE));
}

#[tokio::test]
async fn a_key_that_ended_after_it_was_shown_reserves_nothing() {
    let (ledger, holder, _folder) = ledger().await;
    let whole = Ask { output_wanted: 1_000_000, output_floor: 1_000_000, ..ASK };
    let first = ledger.reserve(&holder, "m", &whole).await;
    assert_eq!(ledger.balance(&holder).held_usd, usd("1.00"));
    let (waits, theirs) = (Arc::clone(&ledger), holder.clone());
    let waiting = tokio::spawn(async move { waits.reserve(&theirs, "m", &ASK).await.unwrap_err() });
    tokio::task::yield_now().await;
    ledger.revoke(&"t".parse().unwrap(), 1).await.unwrap();
    assert_eq!(waiting.await.unwrap(), NoMoney::Key(BadKey::Revoked));
    drop(first);
    let refused = ledger.reserve(&holder, "m", &ASK).await.unwrap_err();
    assert_eq!(refused, NoMoney::Key(BadKey::Revoked));

    let late = MintKey { expires_at: Timestamp::now(), ..key_for("u", PRICE) };
    let key = ledger.mint(&late).await.unwrap().key;
    let holder = ledger.holder(&key, Timestamp::MIN).unwrap();
    let refused = ledger.reserve(&holder, "m", &ASK).await.unwrap_err();
    assert_eq!(refused, NoMoney::Key(BadKey::Expired));
}

#[tokio::test]
async fn the_first_account_of_the_path_that_is_spent_refuses_and_is_named() {
    let (ledger, holder, folder) = ledger().await;
    let refusal = async || match ledger.reserve(&holder, "m", &ASK).await {
        Ok(_) => "none".to_owned(),
        Err(NoMoney::Spent { account, .. }) => account,
        Err(other) => panic!("{other}"),
    };
    let set = async |scope, limit: Option<Usd>| {
        ledger.set_budget(&SetBudget { scope, limit_usd: limit }).await.unwrap().unwrap()
    };
    let (task, repo) = (BudgetScope::Task("t".parse().unwrap()), BudgetScope::Repo("q".parse().unwrap()));
    set(BudgetScope::Day, Some(Usd::ZERO)).await;
    assert_eq!(refusal().await, "day");
    set(repo.clone(), Some(Usd::ZERO)).await;
    assert_eq!(refusal().await, "repo:q");
    set(task.clone(), Some(Usd::ZERO)).await;
    assert_eq!(refusal().await, "task:t");
    set(task, None).await;
    set(repo, None).await;
    set(BudgetScope::Day, Some(PRICE)).await;
    pay(ledger.reserve(&holder, "m", &ASK).await.unwrap());
    assert_eq!(refusal().await, "day");
    // What the owner has set for a task stands before what a mint says, and all of it outlives a start.
    ledger.mint(&key_for("t", Usd::ZERO)).await.unwrap();
    ledger.flush().await;
    drop(ledger);
    let ledger = open(&folder.path().join("gateway.db"), "here");
    let shown: Vec<_> =
        ledger.budgets().budgets.into_iter().map(|b| (b.account, b.limit_usd, b.spent_usd)).collect();
    let wanted = [("day", Some(PRICE)), ("repo:q", None), ("task:t", None)];
    assert_eq!(shown, wanted.map(|(name, limit)| (name.to_owned(), limit, PRICE)));
}

#[tokio::test]
async fn a_task_and_its_retries_have_one_budget_and_a_reused_id_has_another() {
    let (ledger, first, _folder) = ledger().await;
    pay(ledger.reserve(&first, "m", &ASK).await.unwrap());
    let chain = FirstTask { task: "t".parse().unwrap(), born: None };
    let retry = MintKey { first: Some(chain), born: Some(Timestamp::UNIX_EPOCH), ..key_for("r", PRICE) };
    let retried = holder(&ledger, &retry).await;
    let refused = ledger.reserve(&retried, "m", &ASK).await.unwrap_err();
    assert_eq!(refused, NoMoney::Spent { account: "task:t".to_owned(), limit: PRICE, spent: PRICE });
    assert_eq!(ledger.usage(&"t".parse().unwrap()).spent_usd, PRICE);
    assert_eq!(ledger.usage(&"r".parse().unwrap()).spent_usd, Usd::ZERO);

    let born = |second| Some(Timestamp::from_second(second).unwrap());
    let old = holder(&ledger, &MintKey { born: born(1), ..key_for("x", PRICE) }).await;
    pay(ledger.reserve(&old, "m", &ASK).await.unwrap());
    ledger.revoke(&"x".parse().unwrap(), 1).await.unwrap();
    let new = holder(&ledger, &MintKey { born: born(2), ..key_for("x", PRICE) }).await;
    assert_eq!(ledger.usage(&"x".parse().unwrap()).spent_usd, Usd::ZERO);
    pay(ledger.reserve(&new, "m", &ASK).await.unwrap());
    let refused = ledger.reserve(&old, "m", &ASK).await.unwrap_err();
    assert_eq!(refused, NoMoney::Key(BadKey::Revoked));
}

#[tokio::test]
async fn the_owners_keys_are_minted_shown_and_revoked() {
    let (ledger, _, _folder) = ledger().await;
    let wanted = MintOwnerKey {
        name: "t".parse().unwrap(),
        budget_usd: usd("0.001"),
        queue: None,
        expires_at: Timestamp::MAX,
        limits: KeyLimits { models: vec!["m*".to_owned()], ..KeyLimits::default() },
    };
    let key = ledger.mint_owner(&wanted).await.unwrap().key;
    assert_eq!(ledger.mint_owner(&wanted).await.unwrap().key, key);
    let holder = ledger.holder(&key, Timestamp::now()).unwrap();
    let refused = ledger.reserve(&holder, "gpt", &ASK).await.unwrap_err();
    assert_eq!(refused, NoMoney::Model { allowed: "m*".to_owned() });
    pay(ledger.reserve(&holder, "m", &ASK).await.unwrap());
    let info = ledger.key("t").unwrap();
    assert_eq!((info.state, info.spent_usd, info.requests), (KeyState::Spent, PRICE, 1));
    assert_eq!(info.accounts, ["key:t", "day"]);
    assert_eq!(ledger.key("t/1").unwrap().state, KeyState::Active);
    let revoked = ledger.revoke_owner(&wanted.name).await.unwrap().unwrap();
    assert_eq!(revoked.state, KeyState::Revoked);
    ledger.mint_owner(&wanted).await.unwrap();
    assert_eq!(ledger.holder(&key, Timestamp::now()).unwrap_err(), BadKey::Revoked);
    assert_eq!(ledger.revoke_owner(&"u".parse().unwrap()).await.unwrap(), None);
    let ids: Vec<_> = ledger.keys().keys.into_iter().map(|key| key.id).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
}

#[tokio::test]
async fn each_mark_of_an_account_is_told_once_also_over_a_start() {
    let (ledger, _, folder) = ledger().await;
    let price = Usd::from_nanos(PRICE.nanos() * 10);
    let few = holder(&ledger, &key_for("few", price)).await;
    let told = |ledger: &Arc<Ledger>, after| {
        let ledger = Arc::clone(ledger);
        async move { ledger.notices(after, std::time::Duration::ZERO).await }
    };
    let mut seen = Vec::new();
    let waiting = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        async move { ledger.notices(0, std::time::Duration::from_secs(60)).await }
    });
    for _ in 0..8 {
        pay(ledger.reserve(&few, "m", &ASK).await.unwrap());
        seen.push(told(&ledger, 0).await.notices.len());
    }
    assert_eq!(seen, [0, 0, 0, 0, 0, 0, 0, 1]);
    let first = waiting.await.unwrap();
    let notice = &first.notices[0];
    assert_eq!((notice.percent, notice.account.as_str(), notice.spent_usd), (80, "task:few", usd("0.008")));
    assert_eq!((notice.task.as_ref().unwrap().as_str(), notice.budget_usd), ("few", price));
    assert_eq!(told(&ledger, first.next).await.notices, []);
    ledger.flush().await;
    drop(ledger);
    let ledger = open(&folder.path().join("gateway.db"), "here");
    let few = holder(&ledger, &key_for("few", price)).await;
    pay(ledger.reserve(&few, "m", &ASK).await.unwrap());
    assert_eq!(told(&ledger, first.next).await.notices, []);
    pay(ledger.reserve(&few, "m", &ASK).await.unwrap());
    let later = told(&ledger, first.next).await;
    assert_eq!(later.notices.iter().map(|notice| notice.percent).collect::<Vec<_>>(), [95]);
    assert!(later.next > first.next);
}

#[tokio::test]
async fn a_jump_over_both_marks_tells_both_once() {
    let (ledger, _, _folder) = ledger().await;
    let few = holder(&ledger, &key_for("few", usd("0.001"))).await;
    pay(ledger.reserve(&few, "m", &ASK).await.unwrap());
    let told = ledger.notices(0, std::time::Duration::ZERO).await;
    assert_eq!(told.notices.iter().map(|notice| notice.percent).collect::<Vec<_>>(), [80, 95]);
    assert!(told.notices.is_sorted_by_key(|notice| notice.seq));
    assert_eq!(ledger.notices(told.next, std::time::Duration::ZERO).await.notices, []);
}

#[tokio::test]
async fn what_is_taken_out_is_counted_under_few_names() {
    let (ledger, holder, _folder) = ledger().await;
    for n in 0..40 {
        ledger.count_removed(&holder, &[format!("n{n:02}"), "n00".to_owned()]);
    }
    let removed = ledger.usage(&"t".parse().unwrap()).removed;
    assert_eq!((removed.len(), removed["n00"], removed["other"]), (33, 41, 8));
}

#[tokio::test]
async fn a_cut_answer_closes_its_key_until_its_budget_is_set_anew() {
    let (ledger, holder, _folder) = ledger().await;
    let other = ledger.reserve(&holder, "m", &Ask { output_wanted: 900_000, ..ASK }).await.unwrap();
    let reservation = ledger.reserve(&holder, "m", &ASK).await.unwrap();
    reservation.close(PRICE, Tokens::default());
    // There is money again, and still nothing is begun.
    other.release();
    assert_eq!(ledger.reserve(&holder, "m", &ASK).await.unwrap_err(), NoMoney::Cut);
    assert_eq!(ledger.key("t/1").unwrap().state, KeyState::Spent);
    let set = SetBudget { scope: BudgetScope::Task("t".parse().unwrap()), limit_usd: Some(usd("2.00")) };
    ledger.set_budget(&set).await.unwrap();
    assert!(ledger.reserve(&holder, "m", &ASK).await.is_ok());
}

#[tokio::test]
async fn keys_of_long_ago_go_with_their_accounts_and_those_of_today_stay() {
    let (ledger, _, folder) = ledger().await;
    let days = |days: i64| Timestamp::now() - SignedDuration::from_hours(24 * days);
    ledger.mint(&MintKey { expires_at: days(13), ..key_for("young", PRICE) }).await.unwrap();
    ledger.mint(&MintKey { expires_at: days(15), ..key_for("old", PRICE) }).await.unwrap();
    drop(ledger);
    let ledger = open(&folder.path().join("gateway.db"), "here");
    let mut ids: Vec<_> = ledger.keys().keys.into_iter().map(|key| key.id).collect();
    ids.sort();
    assert_eq!(ids, ["t/1", "young/1"]);
    drop(ledger);
    let file = rusqlite::Connection::open(folder.path().join("gateway.db")).unwrap();
    let old = "SELECT (SELECT count(*) FROM account WHERE name LIKE '%old%') + (SELECT count(*) FROM virtual_key WHERE task = 'old')";
    assert_eq!(file.query_row(old, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

/// The tables of version 2, with a task that has spent one `PRICE` and holds another; version 1 had a column more.
fn of_version(path: &Path, version: i64, secret: &[u8]) {
    let parent = if version == 1 { ", parent TEXT" } else { "" };
    let tables = format!(
        "CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 1), bytes BLOB NOT NULL) STRICT;
         CREATE TABLE account (name TEXT PRIMARY KEY, budget_nanos INTEGER NOT NULL,
            spent_nanos INTEGER NOT NULL, held_nanos INTEGER NOT NULL, requests INTEGER NOT NULL,
            input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, models TEXT NOT NULL{parent}
         ) STRICT, WITHOUT ROWID;
         CREATE TABLE virtual_key (hash BLOB PRIMARY KEY, task TEXT NOT NULL, attempt INTEGER NOT NULL,
            expires_at TEXT NOT NULL, revoked INTEGER NOT NULL) STRICT, WITHOUT ROWID;
         INSERT INTO account (name, budget_nanos, spent_nanos, held_nanos, requests, input_tokens,
            output_tokens, models) VALUES ('t', 1000000000, 1000000, 1000000, 3, 5, 7, '[\"m\"]');
         PRAGMA user_version = {version};"
    );
    let file = rusqlite::Connection::open(path).unwrap();
    file.execute_batch(&tables).unwrap();
    file.execute("INSERT INTO secret VALUES (1, ?1)", [secret]).unwrap();
    let maker = crate::virtual_key::KeyMaker::new(secret.try_into().unwrap());
    for (task, attempt) in [("t", 1), ("t", 2), ("never-minted", 1)] {
        let key = maker.of_attempt(&task.parse().unwrap(), attempt, None);
        let hash = crate::virtual_key::KeyHash::of(key.expose());
        let row = (hash.bytes(), task, attempt, Timestamp::MAX.to_string(), attempt == 1);
        file.execute("INSERT INTO virtual_key VALUES (?1, ?2, ?3, ?4, ?5)", row).unwrap();
    }
}

#[tokio::test]
async fn ledgers_of_earlier_versions_are_taken_over() {
    for version in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        of_version(&path, version, &[7; 32]);
        let ledger = open(&path, "here");
        let usage = ledger.usage(&"t".parse().unwrap());
        let spent = Usd::from_nanos(2 * PRICE.nanos());
        assert_eq!((usage.spent_usd, usage.requests, usage.models), (spent, 3, vec!["m".to_owned()]));
        assert_eq!((usage.input_tokens, usage.output_tokens), (5, 7));
        // A running task's start that is repeated brings the key that it has.
        let again = MintKey { born: Some(Timestamp::now()), attempt: 2, ..key_for("t", usd("1.00")) };
        let maker = crate::virtual_key::KeyMaker::new([7; 32]);
        let key = ledger.mint(&again).await.unwrap().key;
        assert_eq!(key, maker.of_attempt(&again.task, 2, None));
        let holder = ledger.holder(&key, Timestamp::now()).unwrap();
        pay(ledger.reserve(&holder, "m", &ASK).await.unwrap());
        for (name, attempt) in [("t", 1), ("never-minted", 1)] {
            let key = maker.of_attempt(&name.parse().unwrap(), attempt, None);
            assert_eq!(ledger.holder(&key, Timestamp::now()).unwrap_err(), BadKey::Revoked);
        }
    }
}

#[tokio::test]
async fn a_killed_program_charges_what_was_under_way_and_a_dead_machine_what_was_covered() {
    let (ledger, holder, folder) = ledger().await;
    let held = ledger.reserve(&holder, "m", &ASK).await.unwrap();
    pay(ledger.reserve(&holder, "m", &ASK).await.unwrap());
    drop(ledger.reserve(&holder, "m", &ASK).await.unwrap());
    let wanted = Usd::from_nanos(2 * PRICE.nanos());
    for account in ["task:t", "repo:q", "day", "key:t/1"] {
        let copy = killed(folder.path());
        let after = open(&copy.path().join("gateway.db"), "here");
        assert_eq!(spent(&after, account), wanted, "{account}");
        drop(after);
        let again = open(&copy.path().join("gateway.db"), "here");
        assert_eq!(spent(&again, account), wanted, "{account}");

        let copy = killed(folder.path());
        let after = open(&copy.path().join("gateway.db"), "another");
        let most = usd("0.051");
        assert!((wanted..=most).contains(&spent(&after, account)), "{account}: {}", spent(&after, account));
    }
    assert_eq!(ledger.balance(&holder).spent_usd, PRICE);
    held.release();
    ledger.flush().await;
    let copy = killed(folder.path());
    let after = open(&copy.path().join("gateway.db"), "another");
    assert_eq!(spent(&after, "task:t"), PRICE, "an end in order is exact");
}

#[tokio::test]
async fn requests_usually_cost_no_flush() {
    let (ledger, holder, _folder) = ledger().await;
    let mut flushes = std::collections::HashSet::new();
    for _ in 0..900 {
        pay(ledger.reserve(&holder, "m", &ASK).await.unwrap());
        flushes.insert(ledger.shared.flushes());
    }
    // Nine tenths of the limit are covered in twentieths of it.
    assert!(flushes.len() <= 20, "{} flushes", flushes.len());
}

#[tokio::test]
async fn where_nothing_can_be_written_nothing_is_held_and_later_all_of_it_is_written() {
    let (ledger, holder, folder) = ledger().await;
    let file = rusqlite::Connection::open(folder.path().join("gateway.db")).unwrap();
    let paid = ledger.reserve(&holder, "m", &ASK).await.unwrap();
    file.execute_batch("ALTER TABLE account RENAME TO away").unwrap();
    pay(paid);
    let much = Ask { output_wanted: 500_000, output_floor: 500_000, ..ASK };
    let refused = ledger.reserve(&holder, "m", &much).await.unwrap_err();
    assert!(matches!(&refused, NoMoney::Storage(why) if why.contains("account")), "{refused}");
    let balance = ledger.balance(&holder);
    assert_eq!((balance.held_usd, balance.spent_usd), (Usd::ZERO, PRICE));
    assert!(ledger.mint(&key_for("u", PRICE)).await.is_err());
    file.execute_batch("ALTER TABLE away RENAME TO account").unwrap();
    // What was collected meanwhile is tried again by itself.
    ledger.mint(&key_for("v", PRICE)).await.unwrap();
    drop(ledger.reserve(&holder, "m", &much).await.unwrap());
    drop(ledger);
    let ledger = open(&folder.path().join("gateway.db"), "here");
    let ids: Vec<_> =
        ["t/1", "u/1", "v/1"].iter().filter_map(|name| ledger.key(name)).map(|key| key.id).collect();
    assert_eq!((ids.len(), spent(&ledger, "task:t")), (3, PRICE));
}

#[tokio::test]
async fn what_costs_more_than_was_held_is_to_be_waited_for() {
    let (ledger, holder, folder) = ledger().await;
    let sent = async || {
        let mut reservation = ledger.reserve(&holder, "m", &ASK).await.unwrap();
        reservation.sending();
        reservation
    };
    assert_eq!(sent().await.settle(PRICE, Tokens::default()), None);
    let power_fails = |boot| {
        let ledger = open(&killed(folder.path()).path().join("gateway.db"), boot);
        spent(&ledger, "task:t")
    };
    // A whole answer; one that grows while it comes; one that passes the budget.
    let unflushed = sent().await.settle(usd("0.20"), Tokens::default()).unwrap();
    Arc::clone(&ledger).flushed(unflushed).await.unwrap();
    assert!(power_fails("there") >= usd("0.201"));
    let mut growing = sent().await;
    assert_eq!(growing.grow(usd("0.002")), Growth::Granted(None), "of what is covered already");
    let Growth::Granted(Some(unflushed)) = growing.grow(usd("0.50")) else { panic!("it is not covered") };
    Arc::clone(&ledger).flushed(unflushed).await.unwrap();
    assert!(power_fails("there") >= usd("0.701"));
    assert_eq!(growing.grow(usd("0.90")), Growth::Refused);
    let unflushed = growing.close(usd("0.90"), Tokens::default()).unwrap();
    Arc::clone(&ledger).flushed(unflushed).await.unwrap();
    assert!(power_fails("there") >= usd("1.101"));
}
