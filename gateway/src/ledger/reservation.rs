//! Money held for one request under way.

use std::sync::Arc;

use jiff::Timestamp;
use protocol::Usd;

use super::{Growth, Ledger, Unflushed, books::Hold, slots::Note};
use crate::{
    account::{Charge, Grant},
    tokens::Tokens,
};

/// A hold. It ends in [`Reservation::settle`] or [`Reservation::release`]. Dropped before either, it is given
/// back where nothing was sent, and else, by a fault of ours, charged in full.
#[derive(Debug)]
pub struct Reservation {
    ledger: Arc<Ledger>,
    hold: Hold,
    model: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was sent.
    Unsent,
    /// The model may be at work.
    Sent,
    /// Settled or released.
    Over,
}

impl Reservation {
    pub(super) fn new(ledger: Arc<Ledger>, hold: Hold, model: String) -> Self {
        Self { ledger, hold, model, state: State::Unsent }
    }

    /// What was granted.
    #[must_use]
    pub fn grant(&self) -> Grant {
        self.hold.grant
    }

    /// From now on the model may be at work.
    pub fn sending(&mut self) {
        self.state = State::Sent;
    }

    /// Makes the hold at least this large, if the budget affords it.
    #[must_use]
    pub fn grow(&mut self, to: Usd) -> Growth {
        let more = to.saturating_sub(self.hold.grant.amount);
        if more == Usd::ZERO {
            return Growth::Granted(None);
        }
        let growth = self.ledger.books().grow(self.hold.key, self.hold.path, more);
        if growth == Growth::Refused {
            return growth;
        }
        self.hold.grant.amount = to;
        if let Err(why) = self.note(None) {
            tracing::error!("a hold that has grown cannot be noted: {why}");
        }
        growth
    }

    /// Charges what the request cost.
    pub fn settle(mut self, amount: Usd, tokens: Tokens) -> Option<Unflushed> {
        self.end(Charge { amount, tokens, reached_model: true })
    }

    /// Charges an answer that has passed its budget, after which nothing more is begun with its key.
    pub fn close(mut self, amount: Usd, tokens: Tokens) -> Option<Unflushed> {
        self.ledger.books().cut(self.hold.key);
        self.end(Charge { amount, tokens, reached_model: true })
    }

    /// Gives everything back: the model was not reached, or refused.
    pub fn release(mut self) {
        self.give_back();
    }

    /// Writes the slot.
    pub(super) fn note(&self, charge: Option<Charge>) -> Result<(), String> {
        let Hold { seq, key, day, grant, slot, .. } = self.hold;
        let note = Note { seq, key, day, hold: grant.amount, charge, model: &self.model };
        self.ledger.slots.write(slot, &note).map_err(|error| error.to_string())
    }

    fn end(&mut self, charge: Charge) -> Option<Unflushed> {
        self.state = State::Over;
        // Before the books know: only then can the slot be another's.
        if let Err(why) = self.note(Some(charge)) {
            tracing::error!("a charge cannot be noted, so a crash would charge its hold: {why}");
        }
        let mut books = self.ledger.books();
        let (passed, unflushed) = books.settle(&self.hold, &charge, &self.model, Timestamp::now());
        books.dirt.settled.push((self.hold.slot, self.hold.seq));
        drop(books);
        self.ledger.settled();
        if passed {
            self.ledger.told.notify_waiters();
        }
        unflushed
    }

    fn give_back(&mut self) {
        self.state = State::Over;
        let cleared = self.ledger.slots.clear(self.hold.slot);
        let charge = Charge { amount: Usd::ZERO, tokens: Tokens::default(), reached_model: false };
        let mut books = self.ledger.books();
        books.settle(&self.hold, &charge, &self.model, Timestamp::now());
        match cleared {
            Ok(()) => books.dirt.free(self.hold.slot),
            Err(error) => {
                tracing::error!("a slot cannot be cleared: {error}");
                // The database says that it is over.
                books.dirt.settled.push((self.hold.slot, self.hold.seq));
            }
        }
        drop(books);
        self.ledger.settled();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        match self.state {
            State::Over => {}
            State::Unsent => self.give_back(),
            State::Sent => {
                let amount = self.hold.grant.amount;
                tracing::error!(%amount, "a request ended unsettled: charging its hold");
                self.end(Charge { amount, tokens: Tokens::default(), reached_model: true });
            }
        }
    }
}
