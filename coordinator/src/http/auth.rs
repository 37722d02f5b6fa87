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

use super::error::Failure;
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

/// Lets the owner pass; `/health` is open.
pub(super) async fn owner(
    State(coordinator): State<Arc<Coordinator>>,
    request: Request,
    next: Next,
) -> Response {
    let refused = match key(request.headers()) {
        _ if request.uri().path() == "/health" => None,
        Some(key) if coordinator.owner_key.matches(key) => None,
        Some(_) => Some(Failure::new(Code::WrongKey, "this is not the owner's key (FORTRESS_API_KEY)")),
        None => Some(Failure::new(
            Code::NoKey,
            "no key came: send the owner's key (FORTRESS_API_KEY) as Authorization: Bearer KEY",
        )),
    };
    match refused {
        Some(failure) => failure.into_response(),
        None if request.uri().path() == "/health" => next.run(request).await,
        None => match sound(&coordinator).await {
            Ok(()) => next.run(request).await,
            Err(failure) => failure.into_response(),
        },
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

/// Lets a worker pass, and says which it is.
pub(super) async fn worker(
    State(coordinator): State<Arc<Coordinator>>,
    mut request: Request,
    next: Next,
) -> Response {
    match known_worker(&coordinator, request.headers()) {
        Ok(worker) => {
            request.extensions_mut().insert(worker);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
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
pub(super) async fn own_host(request: Request, next: Next) -> Response {
    if names_us(&request) {
        return next.run(request).await;
    }
    let why =
        "the request names a foreign host or origin; use http://127.0.0.1:PORT, and no page of another site";
    Failure::new(Code::ForeignOrigin, why).into_response()
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
pub(super) async fn no_origin(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        let why = "a page's request came over a unix socket; use the TCP address";
        return Failure::new(Code::ForeignOrigin, why).into_response();
    }
    next.run(request).await
}

/// Gives each request an id, echoes it, and puts it on every line of its log. Refuses headers over the limit.
pub(super) async fn request_id(request: Request, next: Next) -> Response {
    let given = request.headers().get(headers::REQUEST_ID).filter(|id| {
        id.len() <= REQUEST_ID_CHARS && id.as_bytes().iter().all(u8::is_ascii_graphic) && !id.is_empty()
    });
    let id = given.cloned().or_else(|| HeaderValue::try_from(Uuid::new_v4().to_string()).ok());
    let shown = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    let span =
        tracing::info_span!("request", id = shown, method = %request.method(), path = request.uri().path());
    let size: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut response = if size > limits::HEADER_BYTES {
        let why = format!("the headers have {size} bytes, and {} is the most", limits::HEADER_BYTES);
        Failure::new(Code::TooLarge, why).into_response()
    } else {
        let answer = async {
            let response = next.run(request).await;
            tracing::debug!(status = response.status().as_u16(), "answered");
            response
        };
        answer.instrument(span).await
    };
    if let Some(id) = id {
        response.headers_mut().insert(headers::REQUEST_ID, id);
    }
    response
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
