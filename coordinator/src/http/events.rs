//! A task's events: posted by its worker, followed by its owner.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Json as JsonBody,
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event as Message, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt as _, stream};
use protocol::{
    Code, Event, TaskId,
    event::{EventsStored, NewEvents},
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{
    auth::Worker,
    blocking,
    error::Failure,
    extract::{Json, LeaseHeaders, Params, Queries},
    leases::claim,
};
use crate::{Coordinator, output::Follower};

/// How often a silent stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `POST /tasks/{id}/events`
pub(super) async fn store(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(worker): Extension<Worker>,
    Params(id): Params<TaskId>,
    lease: LeaseHeaders,
    Json(batch): Json<NewEvents>,
) -> Result<JsonBody<EventsStored>, Failure> {
    let claim = claim(&coordinator, &worker, &id, &lease)?;
    let (outputs, queue) = (coordinator.outputs.clone(), coordinator.queue.clone());
    let stored = blocking(move || outputs.append(&queue, &id, claim, batch)).await??;
    Ok(JsonBody(stored))
}

/// The query of `GET /tasks/{id}/events`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FollowQuery {
    /// The place after which to begin; `Last-Event-ID` stands before it.
    #[serde(default)]
    after: u64,
    /// Whether to go on until the task has ended.
    #[serde(default = "always")]
    follow: bool,
}

const fn always() -> bool {
    true
}

/// `GET /tasks/{id}/events`
pub(super) async fn follow(
    State(coordinator): State<Arc<Coordinator>>,
    Params(id): Params<TaskId>,
    Queries(query): Queries<FollowQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let after = match headers.get("last-event-id").map(|value| value.to_str().ok().map(str::parse::<u64>)) {
        None => query.after,
        Some(Some(Ok(last))) => last,
        Some(_) => {
            return Err(Failure::new(
                Code::Invalid,
                "Last-Event-ID: is not the id of an event, which is a number",
            ));
        }
    };
    let (outputs, queue) = (coordinator.outputs.clone(), coordinator.queue.clone());
    let follower = blocking(move || outputs.follow(&queue, &id, after, query.follow)).await??;
    let messages =
        events(follower, coordinator.stop.clone()).map(|event| Ok::<_, Infallible>(message(&event)));
    Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn events(follower: Follower, stop: CancellationToken) -> impl Stream<Item = Event> {
    let batches = stream::unfold((follower, stop), |(follower, stop)| async {
        let (events, follower) = follower.next(&stop).await?;
        Some((stream::iter(events), (follower, stop)))
    });
    batches.flatten()
}

fn message(event: &Event) -> Message {
    let json = serde_json::to_value(event).unwrap_or_default();
    let kind = json.get("kind").and_then(|kind| kind.as_str()).unwrap_or("unknown").to_owned();
    Message::default().id(event.seq.to_string()).event(kind).data(json.to_string())
}
