use std::sync::Arc;

use protocol::{
    TaskId, Usd,
    keys::{KeyLimits, MintKey},
};

use super::{BadKey, Holder, Ledger, NoMoney};
use crate::{account::Ask, prices::Rates};

const ASK: Ask = Ask {
    input_bound: 0,
    output_wanted: 1_000,
    output_floor: 1_000,
    rates: Rates { input: 0, cache_write_5m: 0, cache_write_1h: 0, cache_read: 0, output: 1_000_000 },
};
/// What `ASK` costs.
const PRICE: Usd = Usd::from_nanos(1_000_000);

async fn ledger() -> (Arc<Ledger>, Holder, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("gateway.db")).unwrap();
    let task: TaskId = "t".parse().unwrap();
    let expires_at = jiff::Timestamp::MAX;
    let queue = "q".parse().unwrap();
    let budget_usd = "1.00".parse().unwrap();
    let key = MintKey {
        task,
        born: None,
        attempt: 1,
        first: None,
        queue,
        budget_usd,
        expires_at,
        limits: KeyLimits::default(),
    };
    let key = ledger.mint(&key).await.unwrap().key;
    let holder = ledger.holder(&key, jiff::Timestamp::now()).unwrap();
    (ledger, holder, folder)
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
async fn what_was_acknowledged_is_on_disk() {
    let (ledger, holder, folder) = ledger().await;
    let reservation = ledger.reserve(&holder, "m", &ASK).await.unwrap();
    let path = folder.path().join("gateway.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    let held = || other.query_row("SELECT held_nanos FROM account", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(held(), 1_000_000);
    reservation.release();
    ledger.flush().await;
    assert_eq!(held(), 0);
}

#[tokio::test]
async fn a_key_that_ended_after_it_was_shown_reserves_nothing() {
    let (ledger, holder, _folder) = ledger().await;
    let whole = Ask { output_wanted: 1_000_000, output_floor: 1_000_000, ..ASK };
    let first = ledger.reserve(&holder, "m", &whole).await;
    assert_eq!(ledger.balance(&holder).held_usd, "1.00".parse().unwrap());
    let (waits, theirs) = (Arc::clone(&ledger), holder.clone());
    let waiting = tokio::spawn(async move { waits.reserve(&theirs, "m", &ASK).await.unwrap_err() });
    tokio::task::yield_now().await;
    ledger.revoke(&holder.task, 1).await.unwrap();
    assert_eq!(waiting.await.unwrap(), NoMoney::Key(BadKey::Revoked));
    drop(first);
    let refused = ledger.reserve(&holder, "m", &ASK).await.unwrap_err();
    assert_eq!(refused, NoMoney::Key(BadKey::Revoked));

    let task: TaskId = "u".parse().unwrap();
    let expires_at = jiff::Timestamp::now();
    let (queue, budget_usd) = ("q".parse().unwrap(), PRICE);
    let key = MintKey {
        task,
        born: None,
        attempt: 1,
        first: None,
        queue,
        budget_usd,
        expires_at,
        limits: KeyLimits::default(),
    };
    let key = ledger.mint(&key).await.unwrap().key;
    let holder = ledger.holder(&key, jiff::Timestamp::MIN).unwrap();
    let refused = ledger.reserve(&holder, "m", &ASK).await.unwrap_err();
    assert_eq!(refused, NoMoney::Key(BadKey::Expired));
}

#[tokio::test]
async fn a_ledger_of_the_first_version_is_taken_over() {
    let (ledger, holder, folder) = ledger().await;
    let reservation = ledger.reserve(&holder, "m", &ASK).await.unwrap();
    reservation.settle(PRICE, crate::tokens::Tokens::default());
    ledger.flush().await;
    let path = folder.path().join("first.db");
    let other = rusqlite::Connection::open(folder.path().join("gateway.db")).unwrap();
    other.execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
    let first = rusqlite::Connection::open(&path).unwrap();
    let columns = "name, NULL AS parent, budget_nanos, spent_nanos, held_nanos, requests, input_tokens, output_tokens, models";
    first
        .execute_batch(&format!(
            "CREATE TABLE old AS SELECT {columns} FROM account; DROP TABLE account; ALTER TABLE old RENAME TO account; PRAGMA user_version = 1;"
        ))
        .unwrap();
    drop(first);
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.balance(&holder).spent_usd, PRICE);
    ledger.reserve(&holder, "m", &ASK).await.unwrap();
}
