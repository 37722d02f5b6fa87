//! One request's way to the model and back. It is polled by its client's connection, which saves a task and its
//! wakings, and goes on in a task of its own when the client has gone: it is settled however it ends.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Full, Limited, StreamBody};
use hyper::body::Frame;

use crate::{
    Gateway,
    encoding::{self, Encoding},
    http::{BODY_BYTES, Upload},
    ledger::NoMoney,
    refusal::Refusal,
    upstream::{Answer, Failure, Upstream, Wires},
};

mod lesson;
mod metered;
mod outlive;
mod scrub;
mod stream;
mod tap;

pub use lesson::Lesson;
pub use metered::Metered;
use outlive::Outliving;
use scrub::Scrubber;
use stream::Stream;
pub use tap::Tap;

/// How long an answer whose client has gone is read on, to learn what it costs. After that it is dropped,
/// and charged as if it had come to its bound.
pub const DRAIN: Duration = Duration::from_secs(120);
/// Bytes of an upstream's error that are passed on.
const ERROR_BYTES: usize = 256 * 1024;

/// An answer's body, no longer compressed.
type Answered =
    Either<Answer, StreamBody<Pin<Box<dyn futures_util::Stream<Item = io::Result<Frame<Bytes>>> + Send>>>>;

/// Why a body broke off.
type AnswerError = Box<dyn std::error::Error + Send + Sync>;

/// Takes an answer apart that comes compressed, though nobody asked for that. What cannot be read is left as it
/// is, and still says so in its headers.
fn decoded(answer: http::Response<Answer>) -> http::Response<Answered> {
    let (mut parts, body) = answer.into_parts();
    let body = match Encoding::of(&parts.headers) {
        Ok(Some(encoding)) => {
            parts.headers.remove(header::CONTENT_ENCODING);
            Either::Right(StreamBody::new(encoding.decode(body).map(|chunk| chunk.map(Frame::data)).boxed()))
        }
        Ok(None) => {
            parts.headers.remove(header::CONTENT_ENCODING);
            Either::Left(body)
        }
        Err(encoding::Unknown) => Either::Left(body),
    };
    http::Response::from_parts(parts, body)
}

/// A request for one upstream.
#[derive(Debug)]
pub struct Way {
    /// Where it goes.
    pub upstream: Arc<Upstream>,
    /// With the real key in it.
    pub request: Request<Full<Bytes>>,
}

/// The upstreams that are tried, one after the other, until one can be reached.
#[derive(Debug)]
pub struct Ways {
    /// The one that usually answers.
    pub first: Way,
    /// Tried only when nothing has been sent yet.
    pub others: Vec<Way>,
}

impl Ways {
    /// The answer, whatever it is, of the first upstream that could be reached, or why the last could not be.
    async fn ask(self, wires: &Arc<Wires>) -> (Arc<Upstream>, Result<http::Response<Answer>, Failure>) {
        let Self { first: mut way, others } = self;
        let mut others = others.into_iter();
        loop {
            match (wires.ask(&way.upstream, way.request).await, others.next()) {
                (Err(error @ Failure::Unsent(_)), Some(next)) => {
                    tracing::warn!(
                        "{}; trying {}",
                        unreachable(&way.upstream, &error).message(),
                        next.upstream.base_url
                    );
                    way = next;
                }
                (answer, _) => return (way.upstream, answer),
            }
        }
    }
}

/// A request that is ready to be sent.
#[derive(Debug)]
pub struct Call {
    /// Where it may go.
    pub ways: Ways,
    /// The room that its body takes, given back when the provider has answered.
    pub upload: Option<Upload>,
    /// For requests that cost something.
    pub metered: Option<Metered>,
}

/// Sends a request and returns the head of its answer, whose body follows as it comes.
///
/// # Errors
/// What the client is told when there is no answer.
pub async fn start(gateway: &Arc<Gateway>, wires: &Arc<Wires>, call: Call) -> Result<Response, Refusal> {
    Outliving::new(gateway, exchange(Arc::clone(gateway), Arc::clone(wires), call)).await
}

async fn exchange(gateway: Arc<Gateway>, wires: Arc<Wires>, call: Call) -> Result<Response, Refusal> {
    let under_way = gateway.under_way.token();
    let Call { ways, upload, mut metered } = call;
    if let Some(metered) = &mut metered {
        metered.sending();
    }
    let (upstream, answer) = ways.ask(&wires).await;
    drop(upload);
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            if matches!(error, Failure::Unsent(_)) {
                // So nothing can be billed.
                release(metered);
            }
            return Err(unreachable(&upstream, &error));
        }
    };
    let answer = decoded(answer);
    if !answer.status().is_success() {
        release(metered);
        return refused(&upstream, answer).await;
    }
    if answer.headers().contains_key(header::CONTENT_ENCODING) {
        // It was asked for as it is; what nobody here can read cannot be metered.
        let base = &upstream.base_url;
        let sentence = format!("{base} answered in an encoding that was not asked for and is not known here");
        return Err(Refusal::new(StatusCode::BAD_GATEWAY, "upstream_unreachable", sentence));
    }
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let streams = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
    match metered {
        Some(metered) if streams => {
            let (parts, body) = answer.into_parts();
            let scrubber = Scrubber::new(upstream.key().cloned());
            let stream = Stream::new(&gateway, body, metered, scrubber, under_way);
            let mut response = Response::new(Body::new(stream));
            *response.status_mut() = parts.status;
            *response.headers_mut() = upstream.headers_for_client(&parts.headers);
            Ok(response)
        }
        metered => whole(&gateway, &upstream, answer, metered).await,
    }
}

fn release(metered: Option<Metered>) {
    if let Some(metered) = metered {
        metered.release();
    }
}

/// A whole body, or nothing where it breaks off or is too long.
async fn collect(body: Answered, limit: usize) -> Option<Bytes> {
    Limited::new(body, limit).collect().await.ok().map(http_body_util::Collected::to_bytes)
}

/// An answer that is not a stream: read to its end, charged, and only then passed on.
async fn whole(
    gateway: &Gateway,
    upstream: &Upstream,
    answer: http::Response<Answered>,
    metered: Option<Metered>,
) -> Result<Response, Refusal> {
    let (parts, body) = answer.into_parts();
    let Some(body) = collect(body, BODY_BYTES).await else {
        let sentence = format!("{} broke off in the middle of its answer", upstream.base_url);
        return Err(Refusal::new(StatusCode::BAD_GATEWAY, "upstream_unreachable", sentence));
    };
    if let Some(mut metered) = metered {
        metered.whole(&body);
        if let Some(unflushed) = metered.take_unflushed() {
            Arc::clone(&gateway.ledger).flushed(unflushed).await.map_err(NoMoney::Storage)?;
        }
    }
    let mut response = Response::new(Body::from(upstream.scrub(&body)));
    *response.status_mut() = parts.status;
    *response.headers_mut() = upstream.headers_for_client(&parts.headers);
    Ok(response)
}

async fn refused(upstream: &Upstream, answer: http::Response<Answered>) -> Result<Response, Refusal> {
    let (parts, body) = answer.into_parts();
    tracing::warn!(status = parts.status.as_u16(), upstream = %upstream.base_url, "the upstream refused");
    if parts.status == StatusCode::UNAUTHORIZED {
        // Not 401: that would make agents try again for minutes.
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "upstream_key_refused",
            format!(
                "{} refused the gateway's own key: see that {} is right",
                upstream.base_url, upstream.key_name
            ),
        ));
    }
    let readable = !parts.headers.contains_key(header::CONTENT_ENCODING);
    match collect(body, ERROR_BYTES).await {
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

fn unreachable(upstream: &Upstream, error: &Failure) -> Refusal {
    let (base, why) = (&upstream.base_url, error.cause());
    let sentence =
        format!("{base} cannot be reached: {why}: see that it is right, and that this machine is online");
    Refusal::new(StatusCode::BAD_GATEWAY, "upstream_unreachable", sentence)
}
