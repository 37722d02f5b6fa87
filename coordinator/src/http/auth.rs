//! Who may pass which door.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use protocol::{Code, QueueName, WorkerId, headers, limits};
use tracing::Instrument as _;
use uuid::Uuid;

use super::{
    Door,
    error::{Failure, in_lines, wants_text},
};
use crate::{Coordinator, queue::worker_has_ended};

/// Longest request id that is echoed.
const REQUEST_ID_CHARS: usize = 128;

/// The worker that a request comes from.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) queue: QueueName,
}

/// The key that a request brings.
fn key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|text| {
        let (scheme, key) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let plain = || headers.get(headers::API_KEY).and_then(|value| value.to_str().ok());
    bearer.or_else(plain).filter(|key| !key.is_empty())
}

/// Whether this request may pass this door. A worker that may is known from here on.
async fn admit(coordinator: &Coordinator, door: Door, request: &mut Request) -> Result<(), Failure> {
    match door {
        Door::OwnerTcp => own_host(request)?,
        Door::OwnerUnix => no_origin(request)?,
        Door::Worker => {
            let worker = known_worker(coordinator, request.headers())?;
            request.extensions_mut().insert(worker);
            return Ok(());
        }
    }
    if request.uri().path() == "/health" {
        return Ok(());
    }
    match key(request.headers()) {
        Some(key) if coordinator.owner_key.matches(key) => sound(coordinator).await,
        Some(_) => Err(Failure::new(Code::WrongKey, "this is not the owner's key (FORTRESS_API_KEY)")),
        None => Err(Failure::new(
            Code::NoKey,
            "no key came: send the owner's key (FORTRESS_API_KEY) as Authorization: Bearer KEY",
        )),
    }
}

/// Until a large database is looked through, a damaged index may hide a task: nobody is told that there is none.
async fn sound(coordinator: &Coordinator) -> Result<(), Failure> {
    tokio::select! {
        biased;
        () = coordinator.sound.cancelled() => Ok(()),
        () = coordinator.stop.cancelled() => {
            Err(Failure::new(Code::ShuttingDown, "the coordinator is stopping; its log says why"))
        }
    }
}

fn known_worker(coordinator: &Coordinator, headers: &HeaderMap) -> Result<Worker, Failure> {
    let key = key(headers).ok_or_else(|| {
        Failure::new(Code::NoKey, "no key came: send the worker's token as Authorization: Bearer TOKEN")
    })?;
    let id = coordinator.queue.tokens().worker(key).ok_or_else(|| {
        Failure::new(Code::WrongKey, "this is no worker's token; this door takes no other key")
    })?;
    let queue = coordinator.queue.queue_of(&id)?.ok_or_else(|| worker_has_ended(&id))?;
    match headers.get(headers::PROTOCOL).map(|value| value.to_str().ok().and_then(|text| text.parse().ok())) {
        Some(Some(limits::PROTOCOL_VERSION)) => Ok(Worker { id, queue }),
        _ => Err(Failure::new(
            Code::WrongProtocol,
            format!(
                "this coordinator speaks protocol {}; use the worker of its version",
                limits::PROTOCOL_VERSION
            ),
        )),
    }
}

/// Refuses what a foreign page in the owner's browser could send: another host's name, another page's origin.
fn own_host(request: &Request) -> Result<(), Failure> {
    if names_us(request) {
        return Ok(());
    }
    let why =
        "the request names a foreign host or origin; use http://127.0.0.1:PORT, and no page of another site";
    Err(Failure::new(Code::ForeignOrigin, why))
}

fn names_us(request: &Request) -> bool {
    let text = |name: HeaderName| request.headers().get(name).map(HeaderValue::to_str);
    let host = match (text(header::HOST), request.uri().authority()) {
        (Some(Ok(host)), None) => Some(host),
        (Some(Ok(host)), Some(authority)) if authority.as_str() == host => Some(host),
        _ => None,
    };
    let own_host = host.filter(|host| is_loopback(host));
    let own_origin = match text(header::ORIGIN) {
        None => true,
        Some(origin) => origin.ok().and_then(|origin| origin.strip_prefix("http://")) == own_host,
    };
    own_host.is_some() && own_origin
}

fn is_loopback(host: &str) -> bool {
    let uri = host.parse::<Uri>().ok();
    let name = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    matches!(name, "127.0.0.1" | "localhost" | "[::1]")
}

/// A page has no business at a socket in a private folder.
fn no_origin(request: &Request) -> Result<(), Failure> {
    if request.headers().contains_key(header::ORIGIN) {
        let why = "a page's request came over a unix socket; use the TCP address";
        return Err(Failure::new(Code::ForeignOrigin, why));
    }
    Ok(())
}

/// All that a door does: lets a request pass or not, gives it an id, echoes it, and puts it on every line of its log;
/// refuses headers over the limit; tells problems as they are wanted.
pub(super) async fn pass(
    State((coordinator, door)): State<(Arc<Coordinator>, Door)>,
    mut request: Request,
    next: Next,
) -> Response {
    let lines = wants_text(request.headers());
    let given = request.headers().get(headers::REQUEST_ID).filter(|id| {
        id.len() <= REQUEST_ID_CHARS && id.as_bytes().iter().all(u8::is_ascii_graphic) && !id.is_empty()
    });
    let id = given.cloned().or_else(|| HeaderValue::try_from(Uuid::new_v4().to_string()).ok());
    let shown = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    let span =
        tracing::info_span!("request", id = shown, method = %request.method(), path = request.uri().path());
    let answer = async {
        let admitted = match within_limit(request.headers()) {
            Ok(()) => admit(&coordinator, door, &mut request).await,
            refused => refused,
        };
        let response = match admitted {
            Ok(()) => next.run(request).await,
            Err(failure) => failure.into_response(),
        };
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    };
    let mut response = answer.instrument(span).await;
    if lines {
        response = in_lines(response);
    }
    if let Some(id) = id {
        response.headers_mut().insert(headers::REQUEST_ID, id);
    }
    response
}

fn within_limit(headers: &HeaderMap) -> Result<(), Failure> {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size <= limits::HEADER_BYTES {
        return Ok(());
    }
    let why = format!("the headers have {size} bytes, and {} is the most", limits::HEADER_BYTES);
    Err(Failure::new(Code::TooLarge, why))
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_the_machines_own_names_are_hosts_of_ours() {
        for good in ["127.0.0.1", "127.0.0.1:7222", "localhost:1", "[::1]:7222"] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:7222", "10.0.0.1"] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
