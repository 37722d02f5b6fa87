//! A recorded model in this process.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::time::Duration;

use recorded_model::log::RequestLog;
use recorded_model::script::Script;
use recorded_model::{Config, record, run};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not happen in time")
}

pub(crate) struct Model {
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<std::io::Result<()>>,
}

impl Model {
    pub(crate) async fn start(turns: &str) -> Self {
        Self::start_with(turns, RequestLog::default()).await
    }

    pub(crate) async fn start_with(turns: &str, log: RequestLog) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let config = Config { script: Script::from_toml(turns).unwrap(), log };
        let task = tokio::spawn(run(listener, config, shutdown.clone()));
        Self { url, shutdown, task }
    }

    pub(crate) async fn post(&self, route: &str, body: &Value) -> reqwest::Response {
        let request = reqwest::Client::new().post(format!("{}{route}", self.url)).json(body);
        soon(request.header("authorization", "Bearer sk-secret").send()).await.unwrap()
    }

    pub(crate) async fn json(&self, route: &str, body: &Value) -> Value {
        let response = self.post(route, body).await;
        assert_eq!(response.status(), 200);
        soon(response.json()).await.unwrap()
    }

    /// The events of a stream, each as its name (empty where it has none) and its data.
    pub(crate) async fn events(&self, route: &str, body: &Value) -> Vec<(String, Value)> {
        let response = self.post(route, body).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        events(&soon(response.text()).await.unwrap())
    }
}

/// Reads server-sent events; a data that is no JSON is a text.
pub(crate) fn events(stream: &str) -> Vec<(String, Value)> {
    let read = |event: &str| {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let data = field("data: ");
        let data = serde_json::from_str(data).unwrap_or_else(|_| Value::String(data.to_owned()));
        (field("event: ").to_owned(), data)
    };
    stream.split_terminator("\n\n").map(read).collect()
}

pub(crate) fn lines(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A recorder in this process.
pub(crate) struct Recorder {
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
}

impl Recorder {
    pub(crate) async fn start(file: &Path, upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upstream = record::Upstream::new(upstream).unwrap();
        let config = record::Config { upstream, keeper: record::Keeper::create(file).unwrap() };
        tokio::spawn(record::run(listener, config, CancellationToken::new()));
        Self { url }
    }
}
