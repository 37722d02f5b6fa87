//! An answer that streams: passed on as it comes, its usage read aside.

use std::io;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{sync::mpsc, time::Instant};

use super::{DRAIN, Head, Lesson, Paid, scrub::Scrubber, tap::Tap, tell};
use crate::{Gateway, ledger::Reservation, meter::Meter, prices::ModelPrice, provider::Provider};

/// Chunks that wait for a slow client; after that the upstream is not read.
const CHUNKS_AHEAD: usize = 4;

type ToClient = mpsc::Sender<io::Result<Bytes>>;

/// Passes a stream on to its end, and settles it.
pub(super) async fn pass(
    gateway: &Gateway,
    provider: Provider,
    answer: http::Response<Incoming>,
    paid: Paid,
    head: Head,
) {
    let upstream = gateway.upstream(provider);
    let (parts, body) = answer.into_parts();
    let (client, mut chunks) = mpsc::channel(CHUNKS_AHEAD);
    let to_client = futures_util::stream::poll_fn(move |context| chunks.poll_recv(context));
    let mut response = Response::new(Body::from_stream(to_client));
    *response.status_mut() = parts.status;
    *response.headers_mut() = upstream.headers_for_client(&parts.headers);
    tell(head, Ok(response));

    let mut till = Till { reservation: Some(paid.reservation), price: paid.price, lesson: paid.lesson };
    let mut tap = Tap::new(paid.meter, paid.drop_usage);
    let mut scrubber = Scrubber::new(upstream.key.clone());
    let stream = copy(body, &client, &mut tap, &mut till, &mut scrubber);
    let ended = tokio::select! {
        ended = stream => ended,
        () = gateway.cut.cancelled() => Err(io::Error::other("the gateway stops")),
    };
    till.settle(&tap.meter);
    if let Err(error) = ended {
        tracing::warn!("a stream was cut: {error}");
        // The client must see a cut, not an end.
        tokio::select! {
            biased;
            _ = client.send(Err(error)) => {}
            () = gateway.cut.cancelled() => {}
        }
    }
}

async fn copy(
    mut body: Incoming,
    client: &ToClient,
    tap: &mut Tap,
    till: &mut Till,
    scrubber: &mut Scrubber,
) -> io::Result<()> {
    let mut gone: Option<Instant> = None;
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = client.closed(), if gone.is_none() => {
                gone = Some(Instant::now() + DRAIN);
                continue;
            }
            () = tokio::time::sleep_until(gone.unwrap_or_else(Instant::now)), if gone.is_some() => {
                return Err(io::Error::other("the client has gone, and the answer does not end"));
            }
        };
        let Some(frame) = frame else { break };
        let chunk = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
        let (pass, within_budget) = tap.read(&chunk, |meter| till.affords(meter));
        let mut pass = scrubber.pass(pass);
        if !within_budget {
            till.close(&tap.meter);
            pass = [&pass, tap.meter.budget_error().as_bytes()].concat().into();
        } else if tap.meter.is_final() {
            // Charged before the client can know that the answer is complete.
            till.settle(&tap.meter);
        }
        if !pass.is_empty() && client.send(Ok(pass)).await.is_err() && gone.is_none() {
            gone = Some(Instant::now() + DRAIN);
        }
        if !within_budget {
            return Ok(());
        }
    }
    till.settle(&tap.meter);
    let rest = [scrubber.pass(tap.end()), scrubber.end()].concat();
    if !rest.is_empty() {
        drop(client.send(Ok(rest.into())).await);
    }
    Ok(())
}

/// The money of one stream. Settled at most once.
struct Till {
    reservation: Option<Reservation>,
    price: std::sync::Arc<ModelPrice>,
    lesson: Lesson,
}

impl Till {
    /// Whether the answer is still within what is held for it, or what its account can add.
    fn affords(&mut self, meter: &Meter) -> bool {
        let cost = meter.cost_so_far(&self.price);
        self.reservation.as_mut().is_none_or(|reservation| reservation.grow(cost))
    }

    /// Charges an answer that has ended, or cannot cost more.
    fn settle(&mut self, meter: &Meter) {
        let Some(reservation) = self.reservation.take() else { return };
        self.lesson.learn(meter);
        match meter.charge(&self.price, &reservation.grant()) {
            Some((amount, tokens)) => reservation.settle(amount, tokens),
            None => reservation.release(),
        }
    }

    /// Charges an answer that has passed its budget, so that its key is refused from now on.
    fn close(&mut self, meter: &Meter) {
        let Some(reservation) = self.reservation.take() else { return };
        let amount = meter.cost_so_far(&self.price).max(reservation.grant().amount);
        tracing::warn!(%amount, "a stream has passed its budget and is cut");
        reservation.close(amount, meter.tokens());
    }
}
