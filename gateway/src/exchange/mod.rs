//! One request's way to the model and back. It runs in a task of its own, so that it is settled however it
//! ends: also when its client has gone.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::{
    Gateway,
    http::{BODY_BYTES, Upload},
    ledger::Reservation,
    meter::Meter,
    prices::ModelPrice,
    provider::Provider,
    refusal::Refusal,
};

mod lesson;
mod scrub;
mod stream;
mod tap;

pub use lesson::Lesson;

/// How long an answer whose client has gone is read on, to learn what it costs. After that it is dropped,
/// and charged as if it had come to its bound.
pub const DRAIN: Duration = Duration::from_secs(120);
/// Bytes of an upstream's error that are passed on.
const ERROR_BYTES: usize = 256 * 1024;

/// A request that is ready to be sent.
#[derive(Debug)]
pub struct Call {
    /// Whose API it goes to.
    pub provider: Provider,
    /// With the real key in it.
    pub request: Request<Full<Bytes>>,
    /// The room that its body takes, given back when the provider has answered.
    pub upload: Option<Upload>,
    /// For requests that cost something.
    pub paid: Option<Paid>,
}

/// The money side of a request.
#[derive(Debug)]
pub struct Paid {
    /// What is held for it.
    pub reservation: Reservation,
    /// Its model's price.
    pub price: Arc<ModelPrice>,
    /// Reads its usage.
    pub meter: Meter,
    /// Whether the client must not see the chunk with the usage.
    pub drop_usage: bool,
    /// What its count will say of the next.
    pub lesson: Lesson,
}

impl Paid {
    fn settle(self) {
        self.lesson.learn(&self.meter);
        match self.meter.charge(&self.price, &self.reservation.grant()) {
            Some((amount, tokens)) => self.reservation.settle(amount, tokens),
            None => self.reservation.release(),
        }
    }
}

/// Sends a request and returns the head of its answer, whose body follows as it comes.
///
/// # Errors
/// What the client is told when there is no answer.
pub async fn start(gateway: &Arc<Gateway>, call: Call) -> Result<Response, Refusal> {
    let (head, answered) = oneshot::channel();
    let exchange = exchange(Arc::clone(gateway), call, head);
    gateway.under_way.spawn(exchange);
    answered.await.unwrap_or_else(|_| Err(cut_short()))
}

type Head = oneshot::Sender<Result<Response, Refusal>>;

/// Tells the client, if it is still there; if not, nobody has to know.
fn tell(head: Head, answer: Result<Response, Refusal>) {
    drop(head.send(answer));
}

async fn exchange(gateway: Arc<Gateway>, call: Call, mut head: Head) {
    let Call { provider, request, upload, mut paid } = call;
    if let Some(paid) = &mut paid {
        paid.reservation.sending();
    }
    let answer = tokio::select! {
        answer = gateway.client.request(request) => answer,
        () = gateway.cut.cancelled() => return end(paid, head, cut_short()),
        () = async { head.closed().await; tokio::time::sleep(DRAIN).await } => {
            return end(paid, head, cut_short());
        }
    };
    drop(upload);
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let refusal = unreachable(&gateway, provider, &error);
            if error.is_connect() {
                // Nothing was sent, so nothing can be billed.
                if let Some(paid) = paid {
                    paid.reservation.release();
                }
                return tell(head, Err(refusal));
            }
            return end(paid, head, refusal);
        }
    };
    if !answer.status().is_success() {
        if let Some(paid) = paid {
            paid.reservation.release();
        }
        let refused = refused(&gateway, provider, answer, &mut head).await;
        return tell(head, refused);
    }
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let streams = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
    match paid {
        Some(paid) if streams => stream::pass(&gateway, provider, answer, paid, head).await,
        paid => whole(&gateway, provider, answer, paid, head).await,
    }
}

/// Ends a request of which it is not known what it cost.
fn end(paid: Option<Paid>, head: Head, refusal: Refusal) {
    if let Some(paid) = paid {
        paid.settle();
    }
    tell(head, Err(refusal));
}

/// A whole body, or nothing where it breaks off, is too long, or is still not there when nobody waits for it.
async fn collect(gateway: &Gateway, body: Incoming, limit: usize, head: &mut Head) -> Option<Bytes> {
    tokio::select! {
        body = Limited::new(body, limit).collect() => body.ok().map(http_body_util::Collected::to_bytes),
        () = gateway.cut.cancelled() => None,
        () = async { head.closed().await; tokio::time::sleep(DRAIN).await } => None,
    }
}

/// An answer that is not a stream: read to its end, charged, and only then passed on.
async fn whole(
    gateway: &Gateway,
    provider: Provider,
    answer: http::Response<Incoming>,
    mut paid: Option<Paid>,
    mut head: Head,
) {
    let upstream = gateway.upstream(provider);
    let (parts, body) = answer.into_parts();
    let Some(body) = collect(gateway, body, BODY_BYTES, &mut head).await else {
        let sentence = format!("{} broke off in the middle of its answer", upstream.base_url);
        return end(paid, head, Refusal::new(StatusCode::BAD_GATEWAY, "upstream_unreachable", sentence));
    };
    if let Some(paid) = &mut paid {
        paid.meter.body(&body);
    }
    if let Some(paid) = paid {
        paid.settle();
    }
    let mut response = Response::new(Body::from(upstream.scrub(&body)));
    *response.status_mut() = parts.status;
    *response.headers_mut() = upstream.headers_for_client(&parts.headers);
    tell(head, Ok(response));
}

async fn refused(
    gateway: &Gateway,
    provider: Provider,
    answer: http::Response<Incoming>,
    head: &mut Head,
) -> Result<Response, Refusal> {
    let upstream = gateway.upstream(provider);
    let (parts, body) = answer.into_parts();
    tracing::warn!(status = parts.status.as_u16(), upstream = %upstream.base_url, "the upstream refused");
    if parts.status == StatusCode::UNAUTHORIZED {
        // Not 401: that would make agents try again for minutes.
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "upstream_key_refused",
            format!(
                "{} refused the gateway's own key: see that {} is right",
                upstream.base_url, upstream.key_variable
            ),
        ));
    }
    let readable = !parts.headers.contains_key(header::CONTENT_ENCODING);
    match collect(gateway, body, ERROR_BYTES, head).await {
        Some(body) if readable && !parts.status.is_redirection() => {
            let mut response = Response::new(Body::from(upstream.scrub(&body)));
            *response.status_mut() = parts.status;
            *response.headers_mut() = upstream.headers_for_client(&parts.headers);
            Ok(response)
        }
        _ => Err(Refusal::new(
            StatusCode::BAD_GATEWAY,
            "upstream_unreachable",
            format!("{} answered {} with what cannot be passed on", upstream.base_url, parts.status),
        )),
    }
}

fn unreachable(gateway: &Gateway, provider: Provider, error: &hyper_util::client::legacy::Error) -> Refusal {
    let mut why: &dyn std::error::Error = error;
    while let Some(source) = why.source() {
        why = source;
    }
    let base = &gateway.upstream(provider).base_url;
    let sentence =
        format!("{base} cannot be reached: {why}: see that it is right, and that this machine is online");
    Refusal::new(StatusCode::BAD_GATEWAY, "upstream_unreachable", sentence)
}

fn cut_short() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the gateway stops: try again")
}
