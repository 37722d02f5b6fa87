//! A task's artifacts: put by its worker, taken by its owner.

use std::sync::Arc;

use axum::{
    Extension, Json as JsonBody,
    body::{Body, BodyDataStream},
    extract::{Request, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt as _;
use protocol::{Code, TaskId, headers, ids::ArtifactName, limits, task::Artifact};
use tokio_util::io::ReaderStream;

use super::{
    auth::Worker,
    blocking,
    error::Failure,
    extract::{LeaseHeaders, Params},
    leases::claim,
};
use crate::{
    Coordinator,
    artifacts::{Announced, unknown_artifact},
    crash_point::crash_point,
    queue::unknown_task,
};

/// `PUT /tasks/{id}/artifacts/{name}`
pub(super) async fn put(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(worker): Extension<Worker>,
    Params((id, name)): Params<(TaskId, ArtifactName)>,
    lease: LeaseHeaders,
    request: Request,
) -> Result<JsonBody<Artifact>, Failure> {
    let announced = announced(request.headers(), name)?;
    let mut body = request.into_body().into_data_stream();
    let stored = store(&coordinator, &worker, &id, &lease, &announced, &mut body).await;
    if stored.is_err() {
        // A client that is still sending would see a broken connection instead of the answer.
        drain(&mut body).await;
    }
    stored.map(JsonBody)
}

fn announced(headers: &HeaderMap, name: ArtifactName) -> Result<Announced, Failure> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let size = text(header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
    // Before the body is waited for, which nobody need send.
    if size.is_some_and(|size: u64| size > limits::ARTIFACT_BYTES) {
        let why = format!("an artifact may have {} bytes", limits::ARTIFACT_BYTES);
        return Err(Failure::new(Code::TooLarge, why));
    }
    let lower_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    match text(headers::SHA256).filter(|sha256| sha256.len() == 64 && sha256.bytes().all(lower_hex)) {
        Some(sha256) => Ok(Announced { name, sha256: sha256.to_owned(), size }),
        None => Err(Failure::new(
            Code::BadRequest,
            "the header Code-Workers-SHA256 must hold the artifact's SHA-256 as 64 lower-case hex digits",
        )),
    }
}

async fn store(
    coordinator: &Coordinator,
    worker: &Worker,
    id: &TaskId,
    lease: &LeaseHeaders,
    announced: &Announced,
    body: &mut BodyDataStream,
) -> Result<Artifact, Failure> {
    let claim = claim(coordinator, worker, id, lease)?;
    if !coordinator.queue.runs(id, claim) {
        return Err(coordinator.queue.lost(id).into());
    }
    let (queue, task, name) = (coordinator.queue.clone(), id.clone(), announced.name.clone());
    let room = blocking(move || queue.upload_room(&task, name.as_str())).await??.min(limits::ARTIFACT_BYTES);
    let received = coordinator.artifacts.receive(id, claim.attempt, announced, room, body).await?;
    crash_point("artifact.received");
    let artifact = received.artifact.clone();
    let settle = move || received.settle();
    coordinator.queue.note_upload(id.clone(), claim, artifact.clone(), settle).await?;
    coordinator.artifacts.flush(id, claim.attempt).await?;
    Ok(artifact)
}

async fn drain(body: &mut BodyDataStream) {
    let mut left = limits::ARTIFACT_BYTES;
    while let Some(Ok(chunk)) = body.next().await {
        left = left.saturating_sub(chunk.len() as u64);
        if left == 0 {
            return;
        }
    }
}

/// `GET /tasks/{id}/artifacts/{name}`
pub(super) async fn get(
    State(coordinator): State<Arc<Coordinator>>,
    Params((id, name)): Params<(TaskId, ArtifactName)>,
) -> Result<Response, Failure> {
    let (queue, task_id) = (coordinator.queue.clone(), id.clone());
    let task = blocking(move || queue.task(&task_id)).await??.ok_or_else(|| unknown_task(&id))?;
    let Some(artifact) = task.artifacts.iter().find(|artifact| artifact.name == name.as_str()) else {
        return Err(unknown_artifact(&id, &name).into());
    };
    let file = coordinator.artifacts.open(&id, task.attempt, &name).await?;
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH.as_str(), artifact.size.to_string()),
        (header::X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff".to_owned()),
        (headers::SHA256, artifact.sha256.clone()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}
