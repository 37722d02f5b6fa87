//! A model that bills exactly, and tells what it billed. Each request says in its text how it is to be answered.

use std::{collections::HashMap, io, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// Nano-dollars of a token, as the house's model is priced.
const INPUT: u64 = 1_000;
pub(crate) const OUTPUT: u64 = 5_000;

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Whole,
    Stream,
    /// A stream that breaks off before the last usage; the model works on to what it was allowed.
    Cut,
    /// A refusal, with a status.
    Status(u16),
    /// A stream whose first event is an error.
    Error,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    /// Tokens that the answer would have.
    pub(crate) tokens: u64,
    /// Pieces that it comes in, with a turn of everybody else between two.
    pub(crate) pieces: u16,
    pub(crate) padding: u16,
}

impl Plan {
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}", serde_json::to_string(self).unwrap(), "x".repeat(self.padding.into()))
    }
}

/// What was billed, by request, in nano-dollars.
type Bills = Arc<watch::Sender<Told>>;

/// What has happened.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) bills: HashMap<u64, u64>,
    /// Requests that came, and pieces that were sent.
    pub(crate) events: usize,
}

pub(crate) struct BillingModel {
    pub(crate) url: String,
    pub(crate) told: Bills,
    server: JoinHandle<()>,
}

impl Drop for BillingModel {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl BillingModel {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told = Bills::default();
        let router = Router::new().route("/v1/messages", post(answer)).with_state(Arc::clone(&told));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, told, server }
    }

    pub(crate) fn bill(&self, id: u64) -> u64 {
        self.told.borrow().bills.get(&id).copied().unwrap_or(0)
    }
}

async fn answer(State(bills): State<Bills>, Json(asked): Json<Value>) -> Response {
    let text = asked["messages"][0]["content"].as_str().unwrap();
    let plan: Plan = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let most = asked["max_tokens"].as_u64().unwrap();
    let input = text.len() as u64 / 3 + 7;
    let output = if plan.kind == Kind::Cut { most } else { plan.tokens.min(most) };
    let free = matches!(plan.kind, Kind::Status(_) | Kind::Error);
    let bill = if free { 0 } else { input * INPUT + output * OUTPUT };
    bills.send_modify(|told| {
        told.events += 1;
        assert_eq!(told.bills.insert(plan.id, bill), None, "{plan:?} was sent twice");
    });
    let usage = json!({"input_tokens": input, "output_tokens": output});
    match plan.kind {
        Kind::Whole => Json(json!({"type": "message", "usage": usage})).into_response(),
        Kind::Status(status) => {
            let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "later"}});
            (StatusCode::from_u16(status).unwrap(), Json(error)).into_response()
        }
        Kind::Error => {
            stream(bills, vec![event(&json!({"type": "error", "error": {"type": "api_error"}}))], false)
        }
        Kind::Stream | Kind::Cut => {
            let start = json!({"type": "message_start", "message": {"usage": {"input_tokens": input, "output_tokens": 1}}});
            let delta = json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}});
            let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": output}});
            let mut events = vec![event(&start)];
            // No more of it than the model bills.
            events.extend((0..u64::from(plan.pieces).min(output.saturating_sub(1))).map(|_| event(&delta)));
            let cut = plan.kind == Kind::Cut;
            if !cut {
                events.push(event(&end));
                events.push(event(&json!({"type": "message_stop"})));
            }
            stream(bills, events, cut)
        }
    }
}

fn event(data: &Value) -> Bytes {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()).into()
}

fn stream(bills: Bills, events: Vec<Bytes>, cut: bool) -> Response {
    let broken = cut.then(|| Err(io::Error::other("cut")));
    let pieces = events.into_iter().map(Ok).chain(broken);
    let pieces = futures_util::stream::unfold((pieces, bills), |(mut pieces, bills)| async {
        let piece = pieces.next()?;
        tokio::task::yield_now().await;
        bills.send_modify(|told| told.events += 1);
        Some((piece, (pieces, bills)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(pieces)).into_response()
}
