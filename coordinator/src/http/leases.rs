//! The worker's door: lease, start, heartbeat, result.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json as JsonBody,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use jiff::Timestamp;
use protocol::{
    Code, Problem, QueueName, TaskId,
    keys::MintKey,
    lease::{Beat, Heartbeat, HeartbeatQuery, LeaseQuery, Release, StartRequest, Started},
    limits,
    report::{Accepted, Report},
};

use super::{
    auth::Worker,
    blocking,
    error::Failure,
    extract::{Json, LeaseHeaders, Params, Queries, parse, whole},
};
use crate::{
    Coordinator,
    crash_point::crash_point,
    keys::NoKey,
    queue::{LeaseRequest, Payer, RUN_MARGIN, Reported, Stand, after, full_commit},
    tokens::Claim,
};

/// Nobody takes a task again for this long after the gateway gave it no key.
const GATEWAY_PAUSE: Duration = Duration::from_secs(2);

/// The lease that a worker names, after queue and token were checked. Whether it stands is found by the verb.
pub(super) fn claim(
    coordinator: &Coordinator,
    worker: &Worker,
    task: &TaskId,
    lease: &LeaseHeaders,
) -> Result<Claim, Failure> {
    coordinator.queue.require_queue(task, &worker.queue)?;
    Ok(coordinator.queue.tokens().claim(task, lease.attempt, &lease.token))
}

/// `GET /tasks/lease/{queue}`
pub(super) async fn lease(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(worker): Extension<Worker>,
    Params(queue): Params<QueueName>,
    Queries(query): Queries<LeaseQuery>,
) -> Result<Response, Failure> {
    if worker.queue != queue {
        let why = format!("this worker's token is for queue {}, not for {queue}", worker.queue);
        return Err(Failure::new(Code::WrongQueue, why));
    }
    let _turn = coordinator.waiting_turn()?;
    let wait = Duration::from_secs(query.wait).min(limits::LEASE_WAIT);
    let request = LeaseRequest { worker: worker.id, queue, request: query.request_id };
    let leased = coordinator.queue.lease(&request, wait, coordinator.clock, &coordinator.stop).await?;
    Ok(leased
        .map_or_else(|| StatusCode::NO_CONTENT.into_response(), |leased| JsonBody(leased).into_response()))
}

/// `POST /tasks/{id}/start`
pub(super) async fn start(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(worker): Extension<Worker>,
    Params(id): Params<TaskId>,
    lease: LeaseHeaders,
    body: Body,
) -> Result<JsonBody<Started>, Failure> {
    let body = whole(body).await?;
    let wanted: StartRequest = if body.is_empty() { StartRequest::default() } else { parse(&body)? };
    let claim = claim(&coordinator, &worker, &id, &lease)?;
    let key = match coordinator.queue.is_agents(&id, claim) {
        Some(true) if !wanted.own_key => Some(mint(&coordinator, &id, claim).await?),
        _ => None,
    };
    let expires_at = coordinator.queue.start(&id, claim, coordinator.clock.now()).await?;
    let (virtual_key, budget_usd) = key.map(|(key, request)| (key, request.budget_usd)).unzip();
    let provider_paths = virtual_key.is_some() && coordinator.keys.have_provider_paths();
    Ok(JsonBody(Started { expires_at, virtual_key, budget_usd, provider_paths }))
}

/// A key before the start is committed: a crash between the two leaves a key that no worker has. Without a key the
/// task goes back.
async fn mint(
    coordinator: &Coordinator,
    id: &TaskId,
    claim: Claim,
) -> Result<(protocol::Secret, MintKey), Failure> {
    let row = coordinator.queue.row(id)?.filter(|row| row.claim() == claim);
    let Some(row) = row else { return Err(coordinator.queue.lost(id).into()) };
    let expires_at: Timestamp = match row.stand {
        Stand::Leased { start_before, .. } => after(start_before, row.timeout + RUN_MARGIN),
        Stand::Running { end_before, .. } => end_before,
        _ => return Err(coordinator.queue.lost(id).into()),
    };
    let Payer { budget, born, first } = coordinator.queue.payer(id)?;
    let request = MintKey {
        task: row.id.clone(),
        born,
        attempt: row.attempt,
        first,
        queue: row.queue.clone(),
        budget_usd: budget,
        expires_at,
        limits: coordinator.key_limits.clone(),
    };
    match coordinator.keys.mint(&request).await {
        Ok(key) => {
            crash_point("key.minted");
            Ok((key, request))
        }
        Err(NoKey { reason, why }) => {
            tracing::warn!(task = %id, %why, "no virtual key");
            let now = coordinator.clock.now();
            // A running task's repeated start gives nothing back.
            let _ = coordinator.queue.give_back(id, claim, reason, GATEWAY_PAUSE, now).await;
            let why = format!("{why}; the task went back to its queue");
            Err(Failure::new(Code::GatewayUnavailable, why))
        }
    }
}

/// `POST /tasks/{id}/release`
pub(super) async fn release(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(worker): Extension<Worker>,
    Params(id): Params<TaskId>,
    lease: LeaseHeaders,
    Json(release): Json<Release>,
) -> Result<StatusCode, Failure> {
    if release.reason.len() > limits::REASON_BYTES {
        let why = format!("reason: {} bytes are over {}", release.reason.len(), limits::REASON_BYTES);
        return Err(Failure::new(Code::TooLarge, why));
    }
    let claim = claim(&coordinator, &worker, &id, &lease)?;
    let now = coordinator.clock.now();
    coordinator.queue.give_back(&id, claim, &release.reason, Duration::ZERO, now).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /tasks/{id}/heartbeat`
pub(super) async fn heartbeat(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(worker): Extension<Worker>,
    Params(id): Params<TaskId>,
    Queries(query): Queries<HeartbeatQuery>,
    lease: LeaseHeaders,
    Json(beat): Json<Heartbeat>,
) -> Result<JsonBody<Beat>, Failure> {
    let claim = claim(&coordinator, &worker, &id, &lease)?;
    let wait = Duration::from_secs(query.wait).min(limits::HEARTBEAT_WAIT);
    let now = coordinator.clock.now();
    let beat = coordinator.queue.heartbeat(&id, claim, beat.after, wait, now, &coordinator.stop).await?;
    Ok(JsonBody(beat))
}

/// `POST /tasks/{id}/result`
pub(super) async fn result(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(worker): Extension<Worker>,
    Params(id): Params<TaskId>,
    lease: LeaseHeaders,
    Json(report): Json<Report>,
) -> Result<JsonBody<Accepted>, Failure> {
    check(&report)?;
    let claim = claim(&coordinator, &worker, &id, &lease)?;
    let mut usage = None;
    if coordinator.queue.runs(&id, claim) {
        if coordinator.outputs.is_open(&id) {
            let (outputs, task) = (coordinator.outputs.clone(), id.clone());
            blocking(move || outputs.flush(&task)).await?;
        }
        if coordinator.queue.is_agents(&id, claim) == Some(true) {
            usage = coordinator.keys.revoke(&id, claim.attempt).await;
            crash_point("key.revoked");
        }
    }
    let reported = Reported { id: id.clone(), claim, report, usage };
    let accepted = coordinator.queue.finish(reported, coordinator.clock.now()).await?;
    crash_point("result.accepted");
    tracing::info!(task = %id, attempt = claim.attempt, state = %accepted.state, "result");
    if accepted.state.is_terminal() && coordinator.folders.artifacts(&id).exists() {
        coordinator.place_artifacts(id).await;
    }
    Ok(JsonBody(accepted))
}

fn check(report: &Report) -> Result<(), Problem> {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let sizes = [
        ("message", length(&report.message), limits::MESSAGE_BYTES),
        ("log_tail", report.log_tail.len(), limits::LOG_TAIL_BYTES),
        ("artifacts", report.artifacts.len(), limits::TASK_ARTIFACTS),
        ("reason", length(&report.reason), limits::REASON_BYTES),
        ("head", length(&report.head), limits::HEAD_CHARS),
        ("stages", report.stages.len(), limits::STAGES),
    ];
    let names = report.stages.iter().map(|stage| ("a stage's name", stage.name.len(), limits::NAME_CHARS));
    if let Some((field, size, limit)) = sizes.into_iter().chain(names).find(|(_, size, limit)| size > limit) {
        let why = format!("{field}: {size} is over {limit}; send a shorter one");
        return Err(Problem::new(Code::TooLarge, why));
    }
    match &report.head {
        Some(head) if full_commit(head).is_none() => {
            let why = format!("head: {head:?} is no commit's full id; send 40 or 64 hex digits");
            Err(Problem::new(Code::Invalid, why))
        }
        _ => Ok(()),
    }
}
