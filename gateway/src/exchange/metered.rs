//! A request that costs something, from its reservation to its charge.

use std::sync::Arc;

use bytes::Bytes;

use super::{Lesson, tap::Tap};
use crate::{
    ledger::{Growth, Reservation, Unflushed},
    meter::Meter,
    prices::ModelPrice,
};

/// The money side of a request. However it ends it is settled: at the latest when this is dropped.
#[derive(Debug)]
pub struct Metered {
    reservation: Option<Reservation>,
    price: Arc<ModelPrice>,
    lesson: Lesson,
    tap: Tap,
    sent: bool,
    unflushed: Option<Unflushed>,
}

impl Metered {
    /// For a request whose money is held. `drop_usage`: the client must not see the chunk with the usage.
    #[must_use]
    pub fn new(
        reservation: Reservation,
        price: Arc<ModelPrice>,
        lesson: Lesson,
        meter: Meter,
        drop_usage: bool,
    ) -> Self {
        let tap = Tap::new(meter, drop_usage);
        Self { reservation: Some(reservation), price, lesson, tap, sent: false, unflushed: None }
    }

    /// From now on the model may be at work.
    pub(super) fn sending(&mut self) {
        self.sent = true;
        if let Some(reservation) = &mut self.reservation {
            reservation.sending();
        }
    }

    /// Nothing was sent, or nothing is billed for it.
    pub(super) fn release(mut self) {
        if let Some(reservation) = self.reservation.take() {
            reservation.release();
        }
    }

    /// Reads an answer that is not a stream, and charges it.
    pub(super) fn whole(&mut self, json: &[u8]) {
        self.tap.meter.body(json);
        self.settle();
    }

    /// What must be on disk before what was read last is passed on.
    pub(super) fn take_unflushed(&mut self) -> Option<Unflushed> {
        self.unflushed.take()
    }

    /// Reads a chunk of a stream. Returns what is to be passed on; that the stream has passed its budget, and ends with
    /// this, is told by the second.
    pub(super) fn read(&mut self, chunk: &Bytes) -> (Bytes, bool) {
        let Self { reservation, price, tap, unflushed, .. } = self;
        let (pass, within_budget) = tap.read(chunk, |meter| {
            let Some(reservation) = reservation else { return true };
            let Growth::Granted(wait) = reservation.grow(meter.cost_so_far(price)) else { return false };
            *unflushed = (*unflushed).max(wait);
            true
        });
        if !within_budget {
            self.close();
            return ([&pass, self.tap.meter.budget_error().as_bytes()].concat().into(), true);
        }
        if self.tap.meter.is_final() {
            // Charged before the client can know that the answer is complete.
            self.settle();
        }
        (pass, false)
    }

    /// What was held back, at the stream's end, which is charged.
    pub(super) fn end(&mut self) -> Bytes {
        self.settle();
        self.tap.end()
    }

    /// Charges an answer that has ended, or cannot cost more.
    pub(super) fn settle(&mut self) {
        let Some(reservation) = self.reservation.take() else { return };
        self.lesson.learn(&self.tap.meter);
        match self.tap.meter.charge(&self.price, &reservation.grant()) {
            Some((amount, tokens)) => self.unflushed = self.unflushed.max(reservation.settle(amount, tokens)),
            None => reservation.release(),
        }
    }

    /// Charges an answer that has passed its budget, so that its key is refused from now on.
    fn close(&mut self) {
        let Some(reservation) = self.reservation.take() else { return };
        let amount = self.tap.meter.cost_so_far(&self.price).max(reservation.grant().amount);
        tracing::warn!(%amount, "a stream has passed its budget and is cut");
        self.unflushed = self.unflushed.max(reservation.close(amount, self.tap.meter.tokens()));
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        // What was never sent is given back by the reservation itself.
        if self.sent {
            self.settle();
        }
    }
}
