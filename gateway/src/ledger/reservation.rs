//! Money held for one request under way.

use std::sync::Arc;

use protocol::Usd;

use super::{Ledger, Row};
use crate::{
    account::{Charge, Grant},
    tokens::Tokens,
};

/// A hold. It ends in [`Reservation::settle`] or [`Reservation::release`]. Dropped before either, it is given
/// back where nothing was sent, and else, by a fault of ours, charged in full.
#[derive(Debug)]
pub struct Reservation {
    ledger: Arc<Ledger>,
    account: String,
    model: String,
    grant: Grant,
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
    pub(super) fn new(ledger: Arc<Ledger>, account: String, model: String, grant: Grant) -> Self {
        Self { ledger, account, model, grant, state: State::Unsent }
    }

    /// What was granted.
    #[must_use]
    pub fn grant(&self) -> Grant {
        self.grant
    }

    /// From now on the model may be at work.
    pub fn sending(&mut self) {
        self.state = State::Sent;
    }

    /// Makes the hold at least this large, if the budget affords it.
    #[must_use]
    pub fn grow(&mut self, to: Usd) -> bool {
        let more = to.saturating_sub(self.grant.amount);
        if more == Usd::ZERO {
            return true;
        }
        let mut state = self.ledger.state();
        let account = state.accounts.get_mut(&self.account).filter(|account| account.free() >= more);
        let Some(account) = account else { return false };
        account.held = account.held.saturating_add(more);
        let rows = vec![Row::Account(self.account.clone(), account.clone())];
        self.grant.amount = to;
        // The answer is under way already: nothing waits for this write.
        drop(self.ledger.writer.write(rows));
        true
    }

    /// Charges what the request cost.
    pub fn settle(mut self, amount: Usd, tokens: Tokens) {
        self.end(amount, tokens, true);
    }

    /// Gives everything back: the model was not reached, or refused.
    pub fn release(mut self) {
        self.end(Usd::ZERO, Tokens::default(), false);
    }

    fn end(&mut self, amount: Usd, tokens: Tokens, reached_model: bool) {
        self.state = State::Over;
        let charge = Charge { amount, tokens, model: self.model.clone(), reached_model };
        let mut state = self.ledger.state();
        let mut rows = Vec::new();
        if let Some(account) = state.accounts.get_mut(&self.account) {
            account.settle(self.grant.amount, &charge);
            rows.push(Row::Account(self.account.clone(), account.clone()));
        }
        // Until this is on disk the hold is, which covers it.
        drop(self.ledger.writer.write(rows));
        drop(state);
        self.ledger.settled.notify_waiters();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        match self.state {
            State::Over => {}
            State::Unsent => self.end(Usd::ZERO, Tokens::default(), false),
            State::Sent => {
                let amount = self.grant.amount;
                tracing::error!(account = %self.account, %amount, "a request ended unsettled: charging its hold");
                self.end(amount, Tokens::default(), true);
            }
        }
    }
}
