//! What a start makes of what the last end left: the books as they must be, so that nothing that may have
//! been billed is missing.

use std::collections::HashMap;

use jiff::Timestamp;
use protocol::Usd;

use super::{
    books::{Books, DayLimits, Entry, Path, count},
    dirt::Dirt,
    slots::{Note, notes},
    store::Loaded,
};
use crate::account::Charge;

/// The books of before, and after which end.
pub(super) struct Found<'a> {
    pub(super) loaded: Loaded,
    /// The slots' file.
    pub(super) slots: &'a [u8],
    /// Whether the machine has run on since the file was written last.
    pub(super) same_boot: bool,
}

/// Makes the books of what was found. All that was changed is marked to be written.
pub(super) fn recover(found: Found<'_>, usual: DayLimits, now: Timestamp) -> Books {
    let Found { loaded, slots, same_boot } = found;
    let settled = loaded.settled;
    let ids = loaded.accounts.iter().map(|entry| entry.id).chain(loaded.keys.iter().map(|key| key.id));
    let next_id = ids.max().unwrap_or(0);
    let notes: Vec<_> = notes(slots).collect();
    let noted = notes.iter().filter_map(|(_, note)| Some(note.as_ref()?.seq));
    let seq = settled.values().copied().chain(noted).max().unwrap_or(0);
    let mut books = Books {
        names: loaded.accounts.iter().map(|entry| (entry.name.clone(), entry.id)).collect(),
        accounts: loaded.accounts.into_iter().map(|entry| (entry.id, entry)).collect(),
        hashes: loaded.keys.iter().map(|key| (key.hash, key.id)).collect(),
        key_names: loaded.keys.iter().map(|key| (key.name.clone(), key.id)).collect(),
        keys: loaded.keys.into_iter().map(|key| (key.id, key)).collect(),
        limits: loaded.limits.into_iter().collect(),
        usual,
        dirt: Dirt::after(seq),
        next_id,
        next_notice: now.as_microsecond().unsigned_abs(),
        ..Books::empty(now)
    };
    let readable = notes.iter().all(|(_, note)| note.is_some());
    if same_boot && readable {
        for (slot, note) in notes.iter().filter_map(|(slot, note)| Some((slot, note.as_ref()?))) {
            if settled.get(slot).is_none_or(|last| *last < note.seq) {
                charge(&mut books, note);
            }
        }
    } else {
        charge_covered(&mut books);
    }
    books.limit_days();
    books
}

/// What a request came to; or all that it may have, where nobody knows.
fn charge(books: &mut Books, note: &Note<'_>) {
    let unknown =
        Charge { amount: note.hold, tokens: crate::tokens::Tokens::default(), reached_model: false };
    if note.charge.is_none() {
        tracing::warn!(key = note.key, amount = %note.hold, "charging what was held at the last end");
    }
    let charged = note.charge.unwrap_or(unknown);
    let path: Path = books.path_of(note.key, note.day);
    for (at, id) in path.ids().iter().enumerate() {
        if let Some(entry) = books.accounts.get_mut(id) {
            entry.money.spent = entry.money.spent.saturating_add(charged.amount);
            if at == 0 {
                count(&mut entry.used, &charged, note.model);
            }
        }
        books.touch(*id);
    }
}

/// After a power failure nobody knows more than what was covered.
fn charge_covered(books: &mut Books) {
    let short: HashMap<u64, Usd> = books
        .accounts
        .values()
        .filter(|entry: &&Entry| entry.covered > entry.money.spent)
        .map(|entry| (entry.id, entry.covered))
        .collect();
    for (id, covered) in short {
        if let Some(entry) = books.accounts.get_mut(&id) {
            let (account, spent) = (entry.shown(), entry.money.spent);
            tracing::warn!(%account, %spent, charged = %covered, "the machine has ended: charging what was covered");
            entry.money.spent = covered;
        }
        books.touch(id);
    }
}
