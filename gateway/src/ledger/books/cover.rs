//! What of an account is covered on disk: raised in blocks before it is promised, and lowered when it was not
//! used.

use protocol::Usd;

use super::{
    Books, OPEN_BLOCK,
    entry::{Entry, Path},
};

/// A limit is covered on disk in so many blocks.
const BLOCKS: u64 = 20;

impl Books {
    pub(super) fn promise(&mut self, path: Path, amount: Usd) {
        for id in path.ids() {
            if let Some(entry) = self.accounts.get_mut(id) {
                entry.money.held = entry.money.held.saturating_add(amount);
                entry.peak = entry.peak.max(entry.money.used());
            }
        }
    }

    /// Sees that what is used is covered on disk; the batch to wait for where it is not yet.
    pub(super) fn cover(&mut self, key: u64, path: Path) -> Option<u64> {
        let short = |entry: &mut Entry, durable: u64| {
            if entry.batch <= durable {
                entry.safe = entry.covered;
            }
            entry.money.used() > entry.safe
        };
        let durable = self.dirt.durable;
        let mut any = false;
        for id in path.ids() {
            any |= self.accounts.get_mut(id).is_some_and(|entry| short(entry, durable));
        }
        if !any {
            return None;
        }
        let pays = self.keys.get(&key).and_then(|key| self.accounts.get(&key.pays()));
        let limit = pays.and_then(|entry| entry.money.limit);
        let block = limit.map_or(OPEN_BLOCK, |limit| Usd::from_nanos(limit.nanos() / BLOCKS));
        let mut after = 0;
        for id in path.ids() {
            let Some(entry) = self.accounts.get_mut(id) else { continue };
            entry.block = block;
            let used = entry.money.used();
            let lost = entry.batch <= self.dirt.failed && entry.batch > durable;
            let room = entry.covered.saturating_sub(used);
            // Those that are nearly used up are raised along, for the same flush.
            if entry.covered < used || lost || room.nanos() < block.nanos() / 2 {
                let wanted = used.saturating_add(block);
                let most = entry.money.limit.map_or(wanted, |limit| limit.max(used));
                entry.covered = entry.covered.max(wanted.min(most));
                entry.batch = self.dirt.batch;
                if !std::mem::replace(&mut entry.dirty, true) {
                    self.dirt.accounts.push(*id);
                }
            }
            if short(entry, durable) {
                after = after.max(entry.batch);
            }
        }
        self.dirt.flush = true;
        Some(after)
    }

    /// Lowers what is covered to what was used of late and one block, so that a power failure charges little.
    pub(in crate::ledger) fn lower(&mut self) {
        for entry in self.accounts.values_mut() {
            let used = entry.money.used();
            let enough = entry.peak.max(used).saturating_add(entry.block);
            entry.peak = used;
            if entry.batch <= self.dirt.durable && entry.covered > enough {
                entry.covered = enough;
                entry.safe = enough;
                if !std::mem::replace(&mut entry.dirty, true) {
                    self.dirt.accounts.push(entry.id);
                }
            }
        }
    }

    /// At an end in order nothing but what is spent is covered.
    pub(in crate::ledger) fn close(&mut self) {
        for entry in self.accounts.values_mut() {
            let used = entry.money.used();
            if entry.covered != used {
                entry.covered = used;
                entry.safe = entry.safe.min(used);
                if !std::mem::replace(&mut entry.dirty, true) {
                    self.dirt.accounts.push(entry.id);
                }
            }
        }
        self.dirt.flush = true;
    }
}
