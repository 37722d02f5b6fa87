//! What memory knows and the disk does not yet, and the slots of requests under way.

use protocol::Usd;

/// Collected for the writer.
#[derive(Debug, Default)]
pub(super) struct Dirt {
    /// The number of the batch that takes what is collected now.
    pub(super) batch: u64,
    /// Batches up to this one are on disk for good.
    pub(super) durable: u64,
    /// The last batch that could not be written.
    pub(super) failed: u64,
    /// Whether somebody waits until the batch is on disk for good.
    pub(super) flush: bool,
    pub(super) accounts: Vec<u64>,
    pub(super) keys: Vec<u64>,
    /// Limits that the owner has set, by scope.
    pub(super) limits: Vec<(String, Option<Usd>)>,
    /// Slots whose charge is in this batch: `(slot, seq)`.
    pub(super) settled: Vec<(u32, u64)>,
    /// Rows that are not needed any more.
    pub(super) gone_accounts: Vec<u64>,
    pub(super) gone_keys: Vec<u64>,
    free_slots: Vec<u32>,
    slots: u32,
    pub(super) seq: u64,
}

impl Dirt {
    /// Of a ledger whose last request had this number.
    pub(super) fn after(seq: u64) -> Self {
        Self { batch: 1, seq, ..Self::default() }
    }

    /// A slot that nobody has, and the request's number.
    pub(super) fn slot(&mut self) -> (u32, u64) {
        self.seq += 1;
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        (slot, self.seq)
    }

    /// The slot holds nothing any more that is not in the database.
    pub(super) fn free(&mut self, slot: u32) {
        self.free_slots.push(slot);
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.flush
            && self.accounts.is_empty()
            && self.keys.is_empty()
            && self.limits.is_empty()
            && self.settled.is_empty()
            && self.gone_accounts.is_empty()
            && self.gone_keys.is_empty()
    }
}
