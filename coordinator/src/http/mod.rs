//! The doors: the owner's side, and the worker's. One file a subject.

mod artifacts;
mod auth;
mod bases;
mod error;
mod events;
mod extract;
mod leases;
mod queues;
mod repos;
mod tasks;
mod text;
mod workers;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::header,
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::{delete, get, post, put},
    serve::Listener,
};
use protocol::{Code, limits};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::Coordinator;
use error::Failure;

/// How requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The owner's, over TCP, where a page in a browser can send requests too.
    OwnerTcp,
    /// The owner's, over a socket in a private folder.
    OwnerUnix,
    /// The worker's.
    Worker,
}

/// The owner's side.
pub fn owner(coordinator: Arc<Coordinator>, door: Door) -> Router {
    let routes = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/tasks", post(tasks::submit).get(tasks::list))
        .route("/tasks/{id}", get(tasks::one))
        .route("/tasks/{id}/cancel", post(tasks::cancel))
        .route("/tasks/{id}/approve", post(tasks::approve))
        .route("/tasks/{id}/retry", post(tasks::retry))
        .route("/tasks/{id}/message", post(tasks::message))
        .route("/tasks/{id}/events", get(events::follow))
        .route("/tasks/{id}/artifacts/{name}", get(artifacts::get))
        .route("/repos", post(repos::add).get(repos::list))
        .route("/repos/{name}", delete(repos::remove))
        .route("/queues", get(queues::list))
        .route("/queues/{name}", post(queues::change))
        .route("/workers", post(workers::register))
        .route("/workers/{id}/end", post(workers::end));
    behind(routes, coordinator, door)
}

/// The worker's door.
pub fn worker(coordinator: Arc<Coordinator>) -> Router {
    let routes = Router::new()
        .route("/tasks/lease/{queue}", get(leases::lease))
        .route("/tasks/{id}/start", post(leases::start))
        .route("/tasks/{id}/release", post(leases::release))
        .route("/tasks/{id}/base", get(bases::get))
        .route("/tasks/{id}/heartbeat", post(leases::heartbeat))
        .route("/tasks/{id}/events", post(events::store))
        .route("/tasks/{id}/result", post(leases::result))
        .route("/tasks/{id}/artifacts/{name}", put(artifacts::put));
    behind(routes, coordinator, Door::Worker)
}

/// One layer for all that a door does: each costs memory for every request that waits.
fn behind(routes: Router<Arc<Coordinator>>, coordinator: Arc<Coordinator>, door: Door) -> Router {
    let routes = routes.fallback(error::no_route).method_not_allowed_fallback(error::no_method);
    routes.layer(from_fn_with_state((coordinator.clone(), door), auth::pass)).with_state(coordinator)
}

/// Serves a door until `stop`; then the requests under way end, and so does this.
///
/// # Errors
/// Where the listener fails for good.
pub async fn run<L>(listener: L, routes: Router, stop: CancellationToken) -> std::io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn health() -> Json<Value> {
    Json(json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": limits::PROTOCOL_VERSION,
    }))
}

async fn metrics(State(coordinator): State<Arc<Coordinator>>) -> Result<Response, Failure> {
    let queue = coordinator.queue.clone();
    let queues = blocking(move || queue.queues()).await??;
    let text = coordinator.metrics.text(&queues, coordinator.waiting());
    let text = text.map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, crate::metrics::MEDIA_TYPE)], text).into_response())
}

/// Runs what may wait for the disk where it holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(Code::Internal, format!("a step did not end well: {error}")))
}
