//! `code-workers-gateway`: the program around the room. It only wires.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use clap::Parser;
use gateway::{
    Gateway,
    config::Config,
    http::{self, lanes::Lanes},
    ledger::Ledger,
    prices::{PriceList, clerk},
    provider::Provider,
    sockets,
};
use protocol::settings::{EXIT_BAD_CONFIGURATION, Faults, Settings, Sources};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing_subscriber::EnvFilter;

/// How long streams may go on after SIGTERM. `code-workers up` waits 10 s before it kills, and what is cut
/// is still to be charged.
const GRACE: Duration = Duration::from_secs(8);

/// Turns budget-capped virtual keys into the real ones, and meters what they spend.
#[derive(Parser)]
#[command(name = "code-workers-gateway", version)]
struct Arguments {
    /// The configuration file [default: ~/.config/code-workers/config.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answers what models cost, on standard input and output: what the gateway asks a process of its own.
    #[arg(long, hide = true)]
    look_up_prices: bool,
}

/// This thread accepts and serves the coordinator; agents are served by [`Lanes`].
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(EXIT_BAD_CONFIGURATION)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if arguments.look_up_prices {
        return if clerk::serve().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let config = match configure(&arguments) {
        Ok(config) => config,
        Err(faults) => {
            let _ = writeln!(std::io::stderr().lock(), "code-workers-gateway: {faults}");
            return ExitCode::from(EXIT_BAD_CONFIGURATION);
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Told of a log that cannot be written, the default prints to it and panics.
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false);
    if config.log_json {
        log.json().init();
    } else {
        log.init();
    }
    raise_open_files();
    keep_out_of_core_files();
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "code-workers-gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Each request takes a connection in and one out, and the usual soft limit of 1,024 is only for programs that
/// use `select`.
fn raise_open_files() {
    let hard = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }) {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}

/// A core file would hold the real keys, and so would what another process reads that traces this one.
fn keep_out_of_core_files() {
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!("core files cannot be switched off: {error}");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("tracing cannot be switched off: {error}");
    }
}

fn configure(arguments: &Arguments) -> Result<Config, Faults> {
    let (sources, folders) = Sources::read(arguments.config.as_deref())?;
    Config::read(Settings::new(sources), &folders)
}

async fn run(config: Config) -> anyhow::Result<()> {
    // Before the line that says it is ready: whoever waits for that may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    sockets::private_folder(&config.run).with_context(|| config.run.display().to_string())?;
    let tcp = TcpListener::bind(config.bind).await.with_context(|| {
        format!(
            "cannot listen on {}: set GATEWAY_BIND to another port of 127.0.0.1, or stop what has it",
            config.bind
        )
    })?;
    let address = tcp.local_addr()?;
    let listen = async |path: &std::path::Path, mode| {
        sockets::unix(path, mode).await.with_context(|| format!("cannot listen on {}", path.display()))
    };
    let admin = listen(&config.admin_socket, 0o600).await?;
    // Open to all who reach it: its folder is private, and what it asks for is a key.
    let socket = listen(&config.socket, 0o666).await?;
    let gateway = open(config)?;

    let (shutdown, doors) = (CancellationToken::new(), TaskTracker::new());
    let lanes = Arc::new(Lanes::start().context("no thread can be started")?);
    let tcp = tcp.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!("TCP_NODELAY: {error}");
        }
    });
    doors.spawn(http::connections::run(tcp, Arc::clone(&gateway), Arc::clone(&lanes), shutdown.clone()));
    doors.spawn(http::connections::run(socket, Arc::clone(&gateway), Arc::clone(&lanes), shutdown.clone()));
    // The coordinator may mint and revoke until the last stream has ended.
    let admin = tokio::spawn(http::admin::run(admin, Arc::clone(&gateway), gateway.cut.clone()));
    doors.close();
    tracing::info!("listening on {address}");
    // Where one started us it waits for this.
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!("the service manager could not be told that all is ready: {error}");
    }

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(under_way = gateway.under_way.len(), "stopping");
    shutdown.cancel();
    gateway.under_way.close();
    let settled = async {
        doors.wait().await;
        lanes.empty().await;
        gateway.under_way.wait().await;
    };
    if tokio::time::timeout(GRACE, settled).await.is_err() {
        tracing::warn!(under_way = gateway.under_way.len(), "cutting what has not ended");
    }
    gateway.cut.cancel();
    gateway.under_way.wait().await;
    gateway.ledger.flush().await;
    admin.abort();
    Ok(())
}

fn open(config: Config) -> anyhow::Result<Arc<Gateway>> {
    if let Some(folder) = config.database.parent() {
        sockets::private_folder(folder).with_context(|| folder.display().to_string())?;
    }
    let base_urls = [
        (Provider::Anthropic, config.anthropic.first().base_url.clone()),
        (Provider::OpenAi, config.openai.first().base_url.clone()),
    ];
    let prices = PriceList::new(config.prices, base_urls.into());
    for upstream in config.anthropic.all().chain(config.openai.all()) {
        if !upstream.is_loopback() && upstream.key().is_some() && upstream.base_url.starts_with("http://") {
            tracing::warn!("{} is called without TLS, so its key can be read on the way", upstream.base_url);
        }
    }
    Ok(Arc::new(Gateway {
        ledger: Ledger::open(&config.database, config.days)?,
        prices,
        counted: Arc::default(),
        uploads: Arc::default(),
        anthropic: config.anthropic,
        openai: config.openai,
        under_way: TaskTracker::new(),
        cut: CancellationToken::new(),
    }))
}
