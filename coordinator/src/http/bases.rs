//! What a task starts from, for a worker that has no mirror.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use protocol::{Code, TaskId};
use repository::CommitId;
use tokio_util::io::ReaderStream;

use super::{
    auth::Worker,
    error::Failure,
    extract::{LeaseHeaders, Params},
    leases::claim,
};
use crate::{Coordinator, queue::unknown_task};

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// `GET /tasks/{id}/base`. The length goes before, so that a worker tells a bundle that was cut from a whole one.
pub(super) async fn get(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(worker): Extension<Worker>,
    Params(id): Params<TaskId>,
    lease: LeaseHeaders,
) -> Result<Response, Failure> {
    let claim = claim(&coordinator, &worker, &id, &lease)?;
    if !coordinator.queue.runs(&id, claim) {
        return Err(coordinator.queue.lost(&id).into());
    }
    let row = coordinator.queue.row(&id)?.ok_or_else(|| unknown_task(&id))?;
    let base = row.base_commit.as_deref().and_then(|commit| commit.parse::<CommitId>().ok());
    let Some(base) = base else {
        return Err(Failure::new(Code::Internal, format!("{id} runs, and its base is not pinned")));
    };
    let (file, size) = coordinator.bases.bundle(&row.queue, &base).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, CHUNK))).into_response())
}
