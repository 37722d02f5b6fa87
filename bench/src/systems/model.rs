//! A model's API that costs next to nothing: it answers at once, or streams deltas at a pace that the request names.
//! Every delta says when it was sent.

use std::{
    convert::Infallible,
    net::SocketAddr,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use e2e::Process;
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::{Request, Response, body::Frame, body::Incoming, header::CONTENT_TYPE, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc, time::MissedTickBehavior};

/// Asks this program to be the model.
const ASKED: &str = "CODE_WORKERS_BENCH_MODEL";
/// What stands before the milliseconds between two deltas, anywhere in a request's body.
pub(crate) const PACE: &str = "pace in ms: ";
/// What stands before the nano-seconds since 1970 in every delta.
pub(crate) const SENT_AT: &[u8] = b"sent at ";

const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":"It is done."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":5}}"#;
const COMPLETION: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1750000000,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"It is done."},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}}"#;
const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":12,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";

/// The running model.
pub(crate) struct Model {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Model {
    /// Starts it in a process of its own.
    pub(crate) fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        let mut process = Process::start("model", command.env(ASKED, "1"));
        let line = process.wait_for("listening ");
        let address = line.trim_start_matches("listening ").parse().expect("an address");
        Self { address, _process: process }
    }
}

/// Serves, where this process is the one that is to; does not come back then.
pub(crate) fn serve_if_asked() {
    if std::env::var_os(ASKED).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(serve());
    }
}

async fn serve() -> ! {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("listening {}", listener.local_addr().expect("an address"));
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket takes its options");
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::spawn(connection);
    }
}

type Body = Either<Full<Bytes>, StreamBody<Deltas>>;
type Deltas = futures_util::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

async fn answer(request: Request<Incoming>) -> hyper::Result<Response<Body>> {
    let is_chat = request.uri().path().ends_with("/chat/completions");
    let body = request.into_body().collect().await?.to_bytes();
    let (kind, body) = match pace(&body) {
        Some(pace) => ("text/event-stream", Either::Right(StreamBody::new(deltas(pace)))),
        None if is_chat => {
            ("application/json", Either::Left(Full::new(Bytes::from_static(COMPLETION.as_bytes()))))
        }
        None => ("application/json", Either::Left(Full::new(Bytes::from_static(MESSAGE.as_bytes())))),
    };
    Ok(Response::builder().header(CONTENT_TYPE, kind).body(body).expect("it is an answer"))
}

fn pace(body: &[u8]) -> Option<Duration> {
    let at = memchr::memmem::find(body, PACE.as_bytes())? + PACE.len();
    let digits: String =
        body[at..].iter().take_while(|byte| byte.is_ascii_digit()).map(|&byte| char::from(byte)).collect();
    digits.parse().ok().map(Duration::from_millis)
}

/// Deltas without end, until nobody reads them.
fn deltas(pace: Duration) -> Deltas {
    let (sender, mut chunks) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        // Not all streams at the same moment.
        tokio::time::sleep(pace.mul_f64(f64::from(jitter()) / 256.0)).await;
        let mut ticks = tokio::time::interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = Bytes::from_static(START.as_bytes());
        while sender.send(next).await.is_ok() {
            ticks.tick().await;
            let now = now();
            next = format!("event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"sent at {now} \"}}}}\n\n").into();
        }
    });
    Box::pin(futures_util::stream::poll_fn(move |context| {
        chunks.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }))
}

fn jitter() -> u8 {
    uuid::Uuid::new_v4().as_bytes()[0]
}

/// Nano-seconds since 1970, by the clock that all processes share.
pub(crate) fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_nanos()
}
