//! Gateways in front of one model: ours with keys, budgets and ledger, and what it is held against.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
};

use bytes::Bytes;
use e2e::Process;
use hyper::{Method, header::HeaderName, header::HeaderValue};
use serde_json::{Value, json};

use super::{installed, new_folder};
use crate::http::Connection;

/// What stands before the model, or that nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    /// Nothing.
    Direct,
    /// `proxy_pass`.
    Nginx,
    /// Ours.
    CodeWorkers,
    /// Portkey's, of npm.
    Portkey,
    /// LiteLLM's proxy, of PyPI.
    LiteLlm,
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) system: System,
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) process: Option<Process>,
}

impl System {
    pub(crate) const ALL: [Self; 5] =
        [Self::Direct, Self::Nginx, Self::CodeWorkers, Self::Portkey, Self::LiteLlm];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::CodeWorkers => "code-workers",
            Self::Portkey => "portkey",
            Self::LiteLlm => "litellm",
        }
    }
}

impl Gateway {
    /// Starts one, where it is installed, and waits until it listens.
    pub(crate) async fn start(system: System, model: SocketAddr, inside: &Path) -> Option<Self> {
        let folder = new_folder(inside, system.name());
        let mut gateway = match system {
            System::Direct => Self::new(system, model, None),
            System::Nginx => nginx(model, &folder)?,
            System::CodeWorkers => return Some(ours(model, &folder).await),
            System::Portkey => portkey(model)?,
            System::LiteLlm => litellm(model, &folder)?,
        };
        while tokio::net::TcpStream::connect(gateway.address).await.is_err() {
            tokio::time::sleep(super::LOOK_AGAIN).await;
        }
        if system == System::LiteLlm {
            gateway.process.as_mut()?.wait_for("Application startup complete");
        }
        Some(gateway)
    }

    fn new(system: System, address: SocketAddr, process: Option<Process>) -> Self {
        Self { system, address, key: "sk-none".to_owned(), headers: Vec::new(), process }
    }

    /// A connection whose requests it lets through.
    pub(crate) async fn connect(&self) -> Connection {
        Connection::tcp(self.address, &self.key).await
    }

    /// Resident memory of its process, in MB, and of its children.
    pub(crate) fn resident_mb(&self) -> Option<f64> {
        let pid = self.process.as_ref()?.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let pids = children.split_whitespace().map(str::to_owned).chain([pid.to_string()]);
        let kib = pids.filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        });
        Some(kib.sum::<f64>() / 1_024.0)
    }
}

/// A port that was free a moment ago: these take no port 0.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn nginx(model: SocketAddr, folder: &Path) -> Option<Gateway> {
    let program = installed(&["nginx"])
        .or_else(|| Some("/usr/sbin/nginx".into()).filter(|path: &std::path::PathBuf| path.is_file()))?;
    let address = free_port();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {}/{name};\n", folder.display()))
        .collect();
    let file = folder.join("nginx.conf");
    let text = format!(
        "daemon off; worker_processes auto; worker_rlimit_nofile 20000; pid {0}/pid; error_log stderr warn;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log off; {temporary} client_max_body_size 32m; client_body_buffer_size 1m;\n\
         keepalive_requests 1000000000;\n\
         upstream model {{ server {model}; keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://model; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_buffering off; }} }} }}\n",
        folder.display(),
    );
    fs::write(&file, text).expect("a new file");
    let process = Process::start("nginx", Command::new(program).arg("-c").arg(&file).arg("-p").arg(folder));
    Some(Gateway::new(System::Nginx, address, Some(process)))
}

async fn ours(model: SocketAddr, folder: &Path) -> Gateway {
    let own = std::env::current_exe().expect("this program has a path");
    let program = own.with_file_name("code-workers-gateway");
    assert!(program.is_file(), "{} is not built: cargo build --release", program.display());
    let url = format!("http://{model}");
    let mut process = Process::start(
        "gateway",
        Command::new(program)
            .env_clear()
            .env("HOME", folder)
            .env("GATEWAY_BIND", "127.0.0.1:0")
            .env("ANTHROPIC_UPSTREAM_URL", &url)
            .env("OPENAI_UPSTREAM_URL", &url)
            .env("ANTHROPIC_API_KEY", "sk-real")
            .env("OPENAI_API_KEY", "sk-real")
            .current_dir(folder),
    );
    let line = process.wait_for("listening on ");
    let address = line.rsplit_once("listening on ").and_then(|(_, address)| address.trim().parse().ok());
    let admin = folder.join(".local/share/code-workers/run/gateway-admin.sock");
    let mut admin = Connection::unix(&admin, "none").await;
    let wanted = json!({
        "task": "bench", "attempt": 1, "queue": "bench", "budget_usd": "1000000.00",
        "expires_at": "2100-01-01T00:00:00Z",
    });
    let (status, answer) = admin.call(Method::POST, "/keys", &[], Bytes::from(wanted.to_string())).await;
    assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&answer));
    let answer: Value = serde_json::from_slice(&answer).expect("it is JSON");
    let key = answer["key"].as_str().expect("a key").to_owned();
    let address = address.expect("an address and a port");
    Gateway { key, ..Gateway::new(System::CodeWorkers, address, Some(process)) }
}

fn portkey(model: SocketAddr) -> Option<Gateway> {
    let node = installed(&["node"])?;
    let bin = installed(&["gateway"])?.canonicalize().ok()?;
    let script = bin.to_str().filter(|path| path.contains("portkey"))?.to_owned();
    let address = free_port();
    let mut command = Command::new(node);
    command.arg(script).args([format!("--port={}", address.port()), "--headless".to_owned()]);
    let process = Process::start("portkey", &mut command);
    let header = |name: &'static str, value: &str| {
        (HeaderName::from_static(name), HeaderValue::try_from(value).expect("it is made of visible letters"))
    };
    let headers = vec![
        header("x-portkey-provider", "openai"),
        header("x-portkey-custom-host", &format!("http://{model}/v1")),
    ];
    Some(Gateway { headers, ..Gateway::new(System::Portkey, address, Some(process)) })
}

fn litellm(model: SocketAddr, folder: &Path) -> Option<Gateway> {
    let program = installed(&["litellm"])?;
    let address = free_port();
    let file = folder.join("config.yaml");
    let text = format!(
        "model_list:\n  - model_name: gpt-4o\n    litellm_params:\n      model: openai/gpt-4o\n      \
         api_base: http://{model}/v1\n      api_key: sk-none\n"
    );
    fs::write(&file, text).expect("a new file");
    let mut command = Command::new(program);
    command.arg("--config").arg(&file).args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
    // It has no database and no key of its own: it passes on what comes.
    command.env("HOME", folder).env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true");
    let process = Process::start("litellm", &mut command);
    Some(Gateway::new(System::LiteLlm, address, Some(process)))
}
