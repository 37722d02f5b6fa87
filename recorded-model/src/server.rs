//! The HTTP side: routes in, answers out.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, head, post};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::choose::{Answer, Ending, choose, tokens};
use crate::dialect::Dialect;
use crate::log::RequestLog;
use crate::script::Script;
use crate::stream::{self, Frame, Tail};

/// The largest body that is read, in bytes: Anthropic's own limit for a request.
pub(crate) const MAX_BODY_BYTES: usize = 32 << 20;

/// The model that `/v1/models` lists. Requests may name any.
const MODEL: &str = "recorded";

/// What a server plays, and where it writes down what it was asked.
#[derive(Debug)]
pub struct Config {
    /// The turns.
    pub script: Script,
    /// The record of requests.
    pub log: RequestLog,
}

struct Server {
    config: Config,
    shutdown: CancellationToken,
}

/// Serves until `shutdown`; streams that are still going are cut then.
///
/// # Errors
/// When the listener fails.
pub async fn run(listener: TcpListener, config: Config, shutdown: CancellationToken) -> std::io::Result<()> {
    let server = Arc::new(Server { config, shutdown: shutdown.clone() });
    axum::serve(listener, router(server)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn router(server: Arc<Server>) -> Router {
    let mut router = Router::new().route("/", head(nothing));
    for prefix in ["", "/anthropic"] {
        router = router
            .route(&format!("{prefix}/v1/messages"), post(messages))
            .route(&format!("{prefix}/v1/messages/count_tokens"), post(count_tokens));
    }
    for prefix in ["", "/openai"] {
        router = router
            .route(&format!("{prefix}/v1/chat/completions"), post(chat))
            .route(&format!("{prefix}/v1/responses"), post(responses));
    }
    for prefix in ["", "/anthropic", "/openai"] {
        router = router.route(&format!("{prefix}/v1/models"), get(models));
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(server)
}

/// A request with its body read, written down as soon as it is there.
struct Logged {
    body: Bytes,
}

impl axum::extract::FromRequest<Arc<Server>> for Logged {
    type Rejection = Response;

    async fn from_request(request: axum::extract::Request, server: &Arc<Server>) -> Result<Self, Response> {
        let (method, uri, headers): (Method, Uri, HeaderMap) =
            (request.method().clone(), request.uri().clone(), request.headers().clone());
        let body = Bytes::from_request(request, server).await.map_err(IntoResponse::into_response)?;
        server.config.log.record(&method, &uri, &headers, &body);
        Ok(Self { body })
    }
}

async fn messages(State(server): State<Arc<Server>>, request: Logged) -> Response {
    server.play(Dialect::Messages, &request.body).await
}

async fn chat(State(server): State<Arc<Server>>, request: Logged) -> Response {
    server.play(Dialect::Chat, &request.body).await
}

async fn responses(State(server): State<Arc<Server>>, request: Logged) -> Response {
    server.play(Dialect::Responses, &request.body).await
}

async fn nothing(_request: Logged) {}

async fn models(_request: Logged) -> Json<Value> {
    // Both providers' fields at once: each client reads its own.
    let model = json!({
        "id": MODEL, "object": "model", "created": 0, "owned_by": "code-workers",
        "type": "model", "display_name": "Recorded turns", "created_at": "1970-01-01T00:00:00Z",
    });
    Json(json!({"object": "list", "data": [model], "first_id": MODEL, "last_id": MODEL, "has_more": false}))
}

async fn unknown(uri: Uri, _request: Logged) -> Response {
    refusal(Dialect::Messages, 404, &format!("there is no {}", uri.path()))
}

async fn count_tokens(State(server): State<Arc<Server>>, request: Logged) -> Response {
    match Dialect::Messages.read(&request.body) {
        Ok(asked) => {
            let turn = server.config.script.turn(asked.answered);
            let known = turn.and_then(|turn| turn.usage).map(|usage| usage.input);
            let count = known.unwrap_or_else(|| tokens(asked.bytes));
            Json(json!({"input_tokens": count})).into_response()
        }
        Err(message) => refusal(Dialect::Messages, 400, &message),
    }
}

impl Server {
    async fn play(&self, dialect: Dialect, body: &[u8]) -> Response {
        let asked = match dialect.read(body) {
            Ok(asked) => asked,
            Err(message) => return refusal(dialect, 400, &message),
        };
        match choose(&self.config.script, &asked) {
            Answer::Refuse { status, message, retry_after } => {
                let mut response = refusal(dialect, status, &message);
                if let Some(seconds) = retry_after {
                    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                }
                response
            }
            Answer::Play { reply, delay, ending } => {
                let frames = dialect.frames(&reply, asked.usage_in_stream);
                if asked.stream {
                    return self.streamed(dialect, frames, delay, ending);
                }
                // Told at once, but no sooner than the stream would have ended.
                let deltas = u32::try_from(stream::deltas(&frames)).unwrap_or(u32::MAX);
                tokio::select! {
                    () = tokio::time::sleep(delay.saturating_mul(deltas)) => {}
                    () = self.shutdown.cancelled() => return refusal(dialect, 503, "the server is ending"),
                }
                self.whole(dialect, &dialect.whole(&reply), ending)
            }
        }
    }

    fn streamed(
        &self,
        dialect: Dialect,
        frames: Vec<Frame>,
        delay: std::time::Duration,
        ending: Ending,
    ) -> Response {
        let (frames, tail) = match ending {
            Ending::Whole => (frames, Tail::End),
            Ending::Cut => (stream::first_half(frames), Tail::Cut),
            Ending::Hang => (stream::first_half(frames), Tail::Hang),
            Ending::Failed(message) => {
                let mut frames = stream::first_half(frames);
                frames.push(dialect.error_frame(&message));
                (frames, Tail::End)
            }
        };
        let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
        (headers, stream::body(frames, delay, tail, self.shutdown.clone())).into_response()
    }

    fn whole(&self, dialect: Dialect, body: &Value, ending: Ending) -> Response {
        let tail = match ending {
            Ending::Whole => return Json(body).into_response(),
            Ending::Failed(message) => return refusal(dialect, 500, &message),
            Ending::Cut => Tail::Cut,
            Ending::Hang => Tail::Hang,
        };
        let text = body.to_string();
        let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
        let frames = vec![Frame::part(half)];
        let body = stream::body(frames, std::time::Duration::ZERO, tail, self.shutdown.clone());
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

fn refusal(dialect: Dialect, status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    tracing::info!(%status, "{message}");
    (status, Json(dialect.error(status.as_u16(), message))).into_response()
}
