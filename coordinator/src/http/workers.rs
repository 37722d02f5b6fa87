//! `/workers`: registered by a launcher before their sandbox starts, ended when it is gone.

use std::sync::Arc;

use axum::{Json as JsonBody, extract::State, http::StatusCode};
use protocol::{
    Code, WorkerId, limits,
    worker::{NewWorker, Registered, WorkerEnd},
};

use super::{
    error::Failure,
    extract::{Json, Params},
};
use crate::Coordinator;

/// `POST /workers`
pub(super) async fn register(
    State(coordinator): State<Arc<Coordinator>>,
    Json(new): Json<NewWorker>,
) -> Result<(StatusCode, JsonBody<Registered>), Failure> {
    if new.name.len() > limits::REFERENCE_CHARS || new.name.chars().any(char::is_control) {
        let why = format!("name: use at most {} bytes, and no control characters", limits::REFERENCE_CHARS);
        return Err(Failure::new(Code::Invalid, why));
    }
    let worker_id = coordinator.queue.add_worker(new.queue, new.name, coordinator.clock.now()).await?;
    let token = coordinator.queue.tokens().of_worker(&worker_id);
    Ok((StatusCode::CREATED, JsonBody(Registered { worker_id, token })))
}

/// `POST /workers/{id}/end`
pub(super) async fn end(
    State(coordinator): State<Arc<Coordinator>>,
    Params(id): Params<String>,
    Json(end): Json<WorkerEnd>,
) -> Result<StatusCode, Failure> {
    let why = || Failure::new(Code::UnknownWorker, format!("there is no worker {id:?}"));
    let worker: WorkerId = id.parse().map_err(|_| why())?;
    if coordinator.queue.queue_of(&worker)?.is_some() {
        tracing::info!(worker = %worker, exit = end.exit, reason = end.reason, "worker ended");
    }
    match coordinator.queue.end_worker(&worker, end, coordinator.clock.now()).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(error.into()),
    }
}
