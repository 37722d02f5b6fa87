//! A server that takes the coordinator's requests on the same kinds of sockets, answers the same bytes, and does
//! nothing: what HTTP alone costs here.

use std::{fs, path::Path, process::Command, sync::Arc};

use axum::{
    Router,
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
    serve::ListenerExt as _,
};
use bytes::Bytes;
use e2e::Process;
use tokio::net::{TcpListener, UnixListener};

use super::{new_folder, ours::Answers};
use crate::api::Doors;

/// Names the folder of answers to the process that serves them.
const FOLDER: &str = "CODE_WORKERS_BENCH_NOOP";
const STEPS: [&str; 5] = ["submit", "bulk", "lease", "start", "result"];

/// The running server.
pub(crate) struct Noop {
    /// The process.
    pub(crate) process: Process,
    /// Its doors.
    pub(crate) doors: Doors,
}

impl Noop {
    /// Starts it in a process of its own.
    pub(crate) fn start(inside: &Path, answers: &Answers) -> Self {
        let folder = new_folder(inside, "noop");
        let Answers { submit, bulk, lease, start, result } = answers;
        for (step, answer) in STEPS.iter().zip([submit, bulk, lease, start, result]) {
            fs::write(folder.join(step), answer).expect("a new file");
        }
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        let mut process = Process::start("noop", command.env(FOLDER, &folder));
        let line = process.wait_for("listening ");
        let owner = line.trim_start_matches("listening ").parse().expect("an address");
        let doors = Doors { owner, worker: folder.join("worker.sock"), key: "none".to_owned() };
        Self { process, doors }
    }
}

/// Serves, where this process is the one that is to; does not come back then.
pub(crate) fn serve_if_asked() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(serve(folder.as_ref()));
    }
}

async fn serve(folder: &Path) -> ! {
    let answers = STEPS.map(|step| Bytes::from(fs::read(folder.join(step)).expect("an answer")));
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let unix = UnixListener::bind(folder.join("worker.sock")).expect("a socket");
    println!("listening {}", tcp.local_addr().expect("an address"));
    let tcp = tcp.tap_io(|stream| drop(stream.set_nodelay(true)));
    let routes = routes(answers);
    let other = tokio::spawn(axum::serve(unix, routes.clone()).into_future());
    let served = axum::serve(tcp, routes).await;
    panic!("the server ended: {served:?} {other:?}");
}

fn routes([submit, bulk, lease, start, result]: [Bytes; 5]) -> Router {
    let answer = |body: &Bytes| {
        let body = body.clone();
        move |_: Bytes| async move { json(StatusCode::OK, body) }
    };
    let tasks = Arc::new((submit, bulk));
    let submit = move |sent: Bytes| async move {
        let body = if sent.first() == Some(&b'[') { &tasks.1 } else { &tasks.0 };
        json(StatusCode::CREATED, body.clone())
    };
    let worker = Bytes::from_static(br#"{"worker_id":"w","token":"none"}"#);
    Router::new()
        .route("/workers", post(answer(&worker)))
        .route("/tasks", post(submit))
        .route("/tasks/lease/{queue}", get(answer(&lease)))
        .route("/tasks/{id}/start", post(answer(&start)))
        .route("/tasks/{id}/result", post(answer(&result)))
}

fn json(status: StatusCode, body: Bytes) -> impl IntoResponse {
    let headers =
        [("content-type", "application/json"), ("x-request-id", "00000000-0000-4000-8000-000000000000")];
    (status, headers, body)
}
