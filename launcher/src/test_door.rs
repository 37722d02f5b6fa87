//! A coordinator's doors for the tests of this room: what comes is kept, results are answered as the test says.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Json, Router};
use protocol::event::{EventsStored, NewEvents};
use protocol::report::{Accepted, Report};
use protocol::task::TaskState;
use protocol::{Code, EventBody, Problem};
use tokio::net::UnixListener;

/// What came, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Came {
    Artifact,
    Result,
    End,
}

#[derive(Default)]
pub(crate) struct Door {
    pub(crate) came: Mutex<Vec<Came>>,
    pub(crate) events: Mutex<Vec<EventBody>>,
    /// How many events there were when the result came.
    pub(crate) events_at_result: Mutex<Option<usize>>,
    /// With so many events it answers as one that is shutting down.
    pub(crate) away_from: Mutex<usize>,
    /// What results are refused with.
    refusal: Option<Code>,
}

impl Door {
    /// Opens it at these sockets.
    pub(crate) fn open(sockets: &[&Path], stored: Vec<EventBody>, refusal: Option<Code>) -> Arc<Self> {
        let door = Arc::new(Self {
            events: Mutex::new(stored),
            away_from: Mutex::new(usize::MAX),
            refusal,
            ..Self::default()
        });
        for socket in sockets {
            let routes = Router::new()
                .route("/tasks/{id}/events", post(events))
                .route("/tasks/{id}/artifacts/{name}", put(artifact))
                .route("/tasks/{id}/result", post(result))
                .route("/workers/{id}/end", post(end))
                .with_state(door.clone());
            let listener = UnixListener::bind(socket).unwrap();
            tokio::spawn(async move { axum::serve(listener, routes).await });
        }
        door
    }

    pub(crate) fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }

    fn keep(&self, came: Came) {
        self.came.lock().unwrap().push(came);
    }
}

async fn events(State(door): State<Arc<Door>>, Json(new): Json<NewEvents>) -> Response {
    let mut events = door.events.lock().unwrap();
    if events.len() >= *door.away_from.lock().unwrap() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    // As the coordinator does: what comes after a gap is not taken.
    if let Some(known) = events.len().checked_sub(usize::try_from(new.first).unwrap()) {
        events.extend(new.events.into_iter().skip(known).map(|event| event.body));
    }
    Json(EventsStored { stored: events.len() as u64 }).into_response()
}

async fn artifact(State(door): State<Arc<Door>>, _body: axum::body::Bytes) -> StatusCode {
    door.keep(Came::Artifact);
    StatusCode::CREATED
}

async fn result(State(door): State<Arc<Door>>, Json(_): Json<Report>) -> Response {
    door.keep(Came::Result);
    *door.events_at_result.lock().unwrap() = Some(door.events.lock().unwrap().len());
    match door.refusal {
        Some(code) => {
            let status = StatusCode::from_u16(code.status()).unwrap();
            (status, Json(Problem::new(code, "at the test's door"))).into_response()
        }
        None => Json(Accepted { state: TaskState::Failed }).into_response(),
    }
}

async fn end(State(door): State<Arc<Door>>) -> Json<serde_json::Value> {
    door.keep(Came::End);
    Json(serde_json::json!({}))
}
