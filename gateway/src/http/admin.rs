//! The coordinator's door: mints and revokes virtual keys. Who can open the socket may call.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::Listener,
};
use http::{StatusCode, header};
use protocol::{
    Code, Problem, TaskId,
    keys::{GatewayHealth, KeyUsage, MintKey, MintedKey, UpstreamHealth},
};

use tokio_util::sync::CancellationToken;

use crate::{Gateway, upstream::Upstream};

/// Serves the coordinator until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn run<L>(listener: L, gateway: Arc<Gateway>, shutdown: CancellationToken) -> std::io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    axum::serve(listener, router(gateway)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// The routes of the admin door.
fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/keys", post(mint))
        .route("/keys/{task}", get(usage))
        .route("/keys/{task}/{attempt}/revoke", post(revoke))
        .fallback(unknown)
        .with_state(gateway)
}

struct Fault(Problem);

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, protocol::problem::MEDIA_TYPE)], Json(self.0)).into_response()
    }
}

fn unwritable(why: &str) -> Fault {
    Fault(Problem::new(Code::StorageUnavailable, format!("the gateway's ledger cannot be written: {why}")))
}

fn task(text: &str) -> Result<TaskId, Fault> {
    text.parse().map_err(|error| Fault(Problem::new(Code::Invalid, format!("{error}"))))
}

async fn health(State(gateway): State<Arc<Gateway>>) -> Json<GatewayHealth> {
    let upstream = |upstream: &Upstream| UpstreamHealth {
        provider: upstream.provider.name().to_owned(),
        base_url: upstream.base_url.clone(),
        usable: upstream.key.is_some() || upstream.is_loopback(),
        key_variable: upstream.key_variable.clone(),
    };
    Json(GatewayHealth {
        status: "ok".to_owned(),
        requests_under_way: gateway.under_way.len().try_into().unwrap_or(u64::MAX),
        upstreams: [&gateway.anthropic, &gateway.openai].map(upstream).into(),
    })
}

async fn mint(
    State(gateway): State<Arc<Gateway>>,
    body: Result<Json<MintKey>, JsonRejection>,
) -> Result<Json<MintedKey>, Fault> {
    let Json(wanted) = body.map_err(|error| Fault(Problem::new(Code::BadRequest, error.body_text())))?;
    gateway.ledger.mint(&wanted).await.map(Json).map_err(|why| unwritable(&why))
}

async fn usage(State(gateway): State<Arc<Gateway>>, Path(id): Path<String>) -> Result<Json<KeyUsage>, Fault> {
    Ok(Json(gateway.ledger.usage(&task(&id)?)))
}

async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    Path((id, attempt)): Path<(String, String)>,
) -> Result<Json<KeyUsage>, Fault> {
    let attempt: u32 = attempt.parse().map_err(|_| {
        Fault(Problem::new(Code::Invalid, format!("{attempt:?} is not the number of an attempt")))
    })?;
    gateway.ledger.revoke(&task(&id)?, attempt).await.map(Json).map_err(|why| unwritable(&why))
}

async fn unknown() -> Fault {
    Fault(Problem::new(Code::NotFound, "the gateway's admin door has no such route"))
}
