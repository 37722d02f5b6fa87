//! The coordinator's door: mints and revokes virtual keys. Who can open the socket may call.

use std::{fmt::Display, str::FromStr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::Listener,
};
use http::{StatusCode, header};
use protocol::{
    Code, Problem, TaskId,
    ids::KeyName,
    keys::{
        BudgetInfo, BudgetList, GatewayHealth, KeyInfo, KeyList, KeyUsage, MintKey, MintOwnerKey, MintedKey,
        Notices, SetBudget, UpstreamHealth,
    },
    limits,
};
use serde::Deserialize;
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
        .route("/keys", post(mint).get(keys))
        .route("/keys/{task}", get(usage))
        .route("/keys/{task}/{attempt}", get(task_key))
        .route("/keys/{task}/{attempt}/revoke", post(revoke))
        .route("/owner-keys", post(mint_owner))
        .route("/owner-keys/{name}", get(owner_key))
        .route("/owner-keys/{name}/revoke", post(revoke_owner))
        .route("/budgets", get(budgets).put(set_budget))
        .route("/notices", get(notices))
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

fn name<T: FromStr<Err: Display>>(text: &str) -> Result<T, Fault> {
    text.parse().map_err(|error| Fault(Problem::new(Code::Invalid, format!("{error}"))))
}

fn attempt(text: &str) -> Result<u32, Fault> {
    let why = |_| Fault(Problem::new(Code::Invalid, format!("{text:?} is not the number of an attempt")));
    text.parse().map_err(why)
}

fn read<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Fault> {
    let bad = |error: JsonRejection| Fault(Problem::new(Code::BadRequest, error.body_text()));
    body.map(|Json(body)| body).map_err(bad)
}

fn known<T>(found: Option<T>, what: &str) -> Result<Json<T>, Fault> {
    let why = || Fault(Problem::new(Code::NotFound, format!("the gateway knows no {what}")));
    found.map(Json).ok_or_else(why)
}

async fn health(State(gateway): State<Arc<Gateway>>) -> Json<GatewayHealth> {
    let upstream = |upstream: &Arc<Upstream>| UpstreamHealth {
        provider: upstream.provider.name().to_owned(),
        base_url: upstream.base_url.clone(),
        usable: upstream.is_usable(),
        key_variable: upstream.key_name.clone(),
    };
    Json(GatewayHealth {
        status: "ok".to_owned(),
        requests_under_way: gateway.under_way.len().try_into().unwrap_or(u64::MAX),
        upstreams: gateway.anthropic.all().chain(gateway.openai.all()).map(upstream).collect(),
    })
}

async fn mint(
    State(gateway): State<Arc<Gateway>>,
    body: Result<Json<MintKey>, JsonRejection>,
) -> Result<Json<MintedKey>, Fault> {
    gateway.ledger.mint(&read(body)?).await.map(Json).map_err(|why| unwritable(&why))
}

async fn usage(State(gateway): State<Arc<Gateway>>, Path(id): Path<String>) -> Result<Json<KeyUsage>, Fault> {
    Ok(Json(gateway.ledger.usage(&name(&id)?)))
}

async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    Path((id, number)): Path<(String, String)>,
) -> Result<Json<KeyUsage>, Fault> {
    gateway.ledger.revoke(&name(&id)?, attempt(&number)?).await.map(Json).map_err(|why| unwritable(&why))
}

async fn keys(State(gateway): State<Arc<Gateway>>) -> Json<KeyList> {
    Json(gateway.ledger.keys())
}

async fn task_key(
    State(gateway): State<Arc<Gateway>>,
    Path((id, number)): Path<(String, String)>,
) -> Result<Json<KeyInfo>, Fault> {
    let (task, attempt): (TaskId, u32) = (name(&id)?, attempt(&number)?);
    let id = format!("{task}/{attempt}");
    known(gateway.ledger.key(&id), &format!("key {id}"))
}

async fn mint_owner(
    State(gateway): State<Arc<Gateway>>,
    body: Result<Json<MintOwnerKey>, JsonRejection>,
) -> Result<Json<MintedKey>, Fault> {
    gateway.ledger.mint_owner(&read(body)?).await.map(Json).map_err(|why| unwritable(&why))
}

async fn owner_key(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Json<KeyInfo>, Fault> {
    let id: KeyName = name(&id)?;
    known(gateway.ledger.key(id.as_str()), &format!("key {id}"))
}

async fn revoke_owner(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Json<KeyInfo>, Fault> {
    let id: KeyName = name(&id)?;
    known(gateway.ledger.revoke_owner(&id).await.map_err(|why| unwritable(&why))?, &format!("key {id}"))
}

async fn budgets(State(gateway): State<Arc<Gateway>>) -> Json<BudgetList> {
    Json(gateway.ledger.budgets())
}

async fn set_budget(
    State(gateway): State<Arc<Gateway>>,
    body: Result<Json<SetBudget>, JsonRejection>,
) -> Result<Json<BudgetInfo>, Fault> {
    let set = gateway.ledger.set_budget(&read(body)?).await;
    known(set.map_err(|why| unwritable(&why))?, "account of this task")
}

/// What a poll for notices asks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Poll {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait: u64,
}

async fn notices(
    State(gateway): State<Arc<Gateway>>,
    poll: Result<Query<Poll>, QueryRejection>,
) -> Result<Json<Notices>, Fault> {
    let Query(poll) = poll.map_err(|error| Fault(Problem::new(Code::Invalid, error.body_text())))?;
    let wait = Duration::from_secs(poll.wait);
    if wait > limits::NOTICES_WAIT {
        let why = format!("wait is at most {} s", limits::NOTICES_WAIT.as_secs());
        return Err(Fault(Problem::new(Code::Invalid, why)));
    }
    // A gateway that stops does not wait for who waits.
    let told = gateway.cut.run_until_cancelled(gateway.ledger.notices(poll.after, wait)).await;
    Ok(Json(told.unwrap_or(Notices { next: poll.after, notices: Vec::new() })))
}

async fn unknown() -> Fault {
    Fault(Problem::new(Code::NotFound, "the gateway's admin door has no such route"))
}
