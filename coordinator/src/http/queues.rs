//! `/queues`: how they stand, and what their owner changes about them.

use std::sync::Arc;

use axum::{Json as JsonBody, extract::State};
use protocol::{
    QueueName,
    queue::{ChangeQueue, QueueStatus},
};

use super::{
    blocking,
    error::Failure,
    extract::{Json, Params},
};
use crate::Coordinator;

/// `GET /queues`
pub(super) async fn list(
    State(coordinator): State<Arc<Coordinator>>,
) -> Result<JsonBody<Vec<QueueStatus>>, Failure> {
    let queue = coordinator.queue.clone();
    Ok(JsonBody(blocking(move || queue.queues()).await??))
}

/// `POST /queues/{name}`
pub(super) async fn change(
    State(coordinator): State<Arc<Coordinator>>,
    Params(name): Params<QueueName>,
    Json(change): Json<ChangeQueue>,
) -> Result<JsonBody<QueueStatus>, Failure> {
    let status = coordinator.queue.change(&name, change).await?;
    tracing::info!(queue = %name, mode = %status.mode, max_running = status.max_running, "queue changed");
    Ok(JsonBody(status))
}
