//! Records: stands between a client and a real API, passes everything on as it comes, and writes what the model
//! said into a file that [`crate::server`] can play.

mod hear;
mod keep;
mod upstream;

pub use hear::{Heard, hear};
pub use keep::{Keeper, REMOVED};
pub use upstream::Upstream;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dialect::Dialect;
use crate::server::MAX_BODY_BYTES;

/// Bytes of an answer beyond which it is passed on and not recorded.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Chunks that wait for a slow client.
const CHUNKS_AHEAD: usize = 4;
/// Headers that end at this hop, or that would let the provider answer in a form that cannot be read here.
const NOT_PASSED: [HeaderName; 9] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::ACCEPT_ENCODING,
    header::PROXY_AUTHORIZATION,
];
/// Headers whose values are a key or an account. Those of answers count too.
const OWNERS: [&str; 12] = [
    "authorization",
    "x-api-key",
    "api-key",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "openai-organization",
    "openai-project",
    "anthropic-organization-id",
    "anthropic-workspace-id",
    "chatgpt-account-id",
    "x-goog-api-key",
];

/// What a recorder needs.
#[derive(Debug)]
pub struct Config {
    /// The real API.
    pub upstream: Upstream,
    /// The file.
    pub keeper: Keeper,
}

struct Recorder {
    upstream: Upstream,
    keeper: Mutex<Keeper>,
    under_way: TaskTracker,
}

/// Serves until `shutdown`, and until what is under way then has ended.
///
/// # Errors
/// When the listener fails.
pub async fn run(listener: TcpListener, config: Config, shutdown: CancellationToken) -> std::io::Result<()> {
    let recorder = Arc::new(Recorder {
        upstream: config.upstream,
        keeper: Mutex::new(config.keeper),
        under_way: TaskTracker::new(),
    });
    let router = Router::new().fallback(pass).with_state(Arc::clone(&recorder));
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
    recorder.under_way.close();
    recorder.under_way.wait().await;
    Ok(())
}

/// What is to be kept of the answer to a request.
struct Wanted {
    dialect: Dialect,
    turn: usize,
    with_tools: bool,
    secrets: Vec<String>,
}

async fn pass(State(recorder): State<Arc<Recorder>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY_BYTES).await else {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body did not arrive, or is too large");
    };
    let wanted = Dialect::of_path(parts.uri.path()).and_then(|dialect| {
        let asked = dialect.read(&body).ok()?;
        let secrets = secrets(&parts.headers);
        Some(Wanted { dialect, turn: asked.answered, with_tools: !asked.tools.is_empty(), secrets })
    });
    let answer = match recorder.upstream.send(parts.method, &parts.uri, passed(&parts.headers), body).await {
        Ok(answer) => answer,
        Err(why) => return refusal(StatusCode::BAD_GATEWAY, &why),
    };
    let (parts, body) = answer.into_parts();
    let wanted = wanted.filter(|_| parts.status == StatusCode::OK).map(|mut wanted| {
        wanted.secrets.extend(secrets(&parts.headers));
        wanted
    });
    let (client, mut chunks) = mpsc::channel(CHUNKS_AHEAD);
    recorder.under_way.spawn(Arc::clone(&recorder).copy(body, client, wanted));
    let chunks = futures_util::stream::poll_fn(move |context| chunks.poll_recv(context));
    let mut response = Response::new(Body::from_stream(chunks));
    *response.status_mut() = parts.status;
    *response.headers_mut() = passed(&parts.headers);
    response
}

impl Recorder {
    async fn copy(
        self: Arc<Self>,
        body: hyper::body::Incoming,
        client: mpsc::Sender<std::io::Result<Bytes>>,
        wanted: Option<Wanted>,
    ) {
        let mut heard = Vec::new();
        let mut chunks = http_body_util::BodyDataStream::new(body);
        while let Some(chunk) = chunks.next().await {
            if let (Ok(chunk), true) = (&chunk, wanted.is_some() && heard.len() < MAX_ANSWER_BYTES) {
                heard.extend_from_slice(chunk);
            }
            if client.send(chunk.map_err(std::io::Error::other)).await.is_err() {
                break;
            }
        }
        // Before the client sees the end: then the file has what it has.
        if let Some(wanted) = wanted {
            self.keep(&wanted, &heard);
        }
    }

    fn keep(&self, wanted: &Wanted, body: &[u8]) {
        let Some(heard) = hear(wanted.dialect, body) else {
            return tracing::warn!(turn = wanted.turn + 1, "an answer broke off and is not recorded");
        };
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        match keeper.keep(wanted.turn, wanted.with_tools, heard, &wanted.secrets) {
            Ok(()) => tracing::info!(turn = wanted.turn + 1, turns = keeper.turns(), "recorded"),
            Err(why) => tracing::error!("{why}"),
        }
    }
}

fn passed(headers: &HeaderMap) -> HeaderMap {
    let all = headers.iter().filter(|(name, _)| !NOT_PASSED.contains(name));
    all.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The values of headers that nobody is to read, and the words in them.
fn secrets(headers: &HeaderMap) -> Vec<String> {
    let values = OWNERS.iter().flat_map(|name| headers.get_all(*name));
    let texts = values.filter_map(|value| value.to_str().ok());
    let words = texts.flat_map(|text| std::iter::once(text).chain(text.split([' ', ';', '='])));
    words.filter(|word| word.len() >= 6).map(str::to_owned).collect()
}

fn refusal(status: StatusCode, why: &str) -> Response {
    tracing::warn!(%status, "{why}");
    (status, Json(json!({"error": {"type": "recorder", "message": why}}))).into_response()
}
