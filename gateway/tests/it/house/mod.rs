//! A gateway, and models to stand behind it.

pub(crate) mod billing;
mod raw;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use protocol::{
    client::{AdminClient, Endpoint},
    keys::{KeyLimits, MintKey},
};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

pub(crate) use raw::{Piece, RawModel, read_request};

/// Longer than anything takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The real key, which nobody may see.
pub(crate) const REAL_KEY: &str = "sk-real-0123456789abcdef";
pub(crate) const MODEL: &str = "claude-haiku-4-5";

/// Waits for an event, but not for ever.
pub(crate) async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.expect("it takes too long")
}

async fn line_with(stream: impl tokio::io::AsyncRead + Unpin, words: &str) -> String {
    let mut lines = BufReader::new(stream).lines();
    let mut seen = String::new();
    while let Some(line) = soon(lines.next_line()).await.unwrap() {
        if line.contains(words) {
            return line;
        }
        seen += &line;
    }
    panic!("it ended without saying {words:?}: {seen}");
}

/// The recorded model's program.
pub(crate) struct RecordedModel {
    pub(crate) url: String,
    _process: Child,
    _folder: TempDir,
}

impl RecordedModel {
    pub(crate) async fn start(turns: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("turns.toml");
        std::fs::write(&file, turns).unwrap();
        let ours = Path::new(env!("CARGO_BIN_EXE_code-workers-gateway"));
        let program = ours.with_file_name("code-workers-recorded-model");
        assert!(program.exists(), "{} is missing: cargo build -p recorded-model", program.display());
        let mut process = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--turns"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let line = line_with(process.stdout.take().unwrap(), "listening on ").await;
        let url = format!("http://{}", line.rsplit(' ').next().unwrap());
        Self { url, _process: process, _folder: folder }
    }
}

/// The gateway's program, with folders of its own.
pub(crate) struct House {
    pub(crate) folder: TempDir,
    pub(crate) upstream: String,
    pub(crate) config: String,
}

impl House {
    /// With one server as both upstreams.
    pub(crate) fn before(upstream: &str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), upstream: upstream.to_owned(), config: String::new() }
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join("run/code-workers").join(name)
    }

    pub(crate) fn command(&self) -> Command {
        self.command_by(&[])
    }

    /// Started by another program, which becomes it.
    fn command_by(&self, by: &[&str]) -> Command {
        let file = self.folder.path().join("config.toml");
        std::fs::write(&file, &self.config).unwrap();
        let mut words = by.iter().copied().chain([env!("CARGO_BIN_EXE_code-workers-gateway")]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("XDG_RUNTIME_DIR", self.folder.path().join("run"))
            .env("GATEWAY_BIND", "127.0.0.1:0")
            .env("ANTHROPIC_UPSTREAM_URL", &self.upstream)
            .env("OPENAI_UPSTREAM_URL", format!("{}/v1/", self.upstream))
            .env("ANTHROPIC_API_KEY", REAL_KEY)
            .env("OPENAI_API_KEY", REAL_KEY)
            .arg("--config")
            .arg(&file)
            .current_dir(self.folder.path())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn open(&self) -> Gateway {
        self.open_by(&[]).await
    }

    pub(crate) async fn open_by(&self, by: &[&str]) -> Gateway {
        let mut process = self.command_by(by).spawn().unwrap();
        let line = line_with(process.stderr.take().unwrap(), "listening on ").await;
        let socket = self.socket("gateway.sock");
        let admin = Endpoint::Unix(self.socket("gateway-admin.sock"));
        Gateway {
            process,
            tcp: format!("http://{}", line.rsplit(' ').next().unwrap()),
            client: Client::builder().unix_socket(socket).build().unwrap(),
            admin: AdminClient::new(admin).unwrap(),
        }
    }
}

/// A gateway that runs.
pub(crate) struct Gateway {
    pub(crate) process: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) tcp: String,
    pub(crate) client: Client,
    pub(crate) admin: AdminClient,
}

pub(crate) fn key_for(task: &str, budget: &str) -> MintKey {
    MintKey {
        task: task.parse().unwrap(),
        born: None,
        attempt: 1,
        first: None,
        queue: "q".parse().unwrap(),
        budget_usd: budget.parse().unwrap(),
        expires_at: Timestamp::now() + SignedDuration::from_hours(1),
        limits: KeyLimits::default(),
    }
}

impl Gateway {
    pub(crate) async fn mint(&self, task: &str, budget: &str) -> String {
        self.admin.mint(&key_for(task, budget)).await.unwrap().key.expose().to_owned()
    }

    pub(crate) fn post(&self, path: &str, key: &str, body: &Value) -> RequestBuilder {
        self.client.post(format!("http://gateway{path}")).header("x-api-key", key).json(body)
    }

    pub(crate) fn get(&self, path: &str, key: &str) -> RequestBuilder {
        self.client.get(format!("http://gateway{path}")).bearer_auth(key)
    }

    /// A Messages request.
    pub(crate) async fn ask(&self, key: &str, max_tokens: u64, stream: bool) -> Response {
        soon(self.post("/v1/messages", key, &question(max_tokens, stream)).send()).await.unwrap()
    }

    pub(crate) async fn spent(&self, task: &str) -> String {
        self.admin.usage(&task.parse().unwrap()).await.unwrap().spent_usd.to_string()
    }

    /// Waits until nothing is held for a key's account, and says what it has spent. The gateway is asked
    /// again and again: it tells nobody when a request without a client has ended.
    pub(crate) async fn settled(&self, key: &str) -> String {
        soon(async {
            loop {
                let balance: Value = self.get("/v1/key", key).send().await.unwrap().json().await.unwrap();
                if balance["held_usd"] == "0.00" {
                    return balance["spent_usd"].as_str().unwrap().to_owned();
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}

pub(crate) fn question(max_tokens: u64, stream: bool) -> Value {
    json!({"model": MODEL, "max_tokens": max_tokens, "stream": stream,
           "messages": [{"role": "user", "content": "hi"}]})
}
