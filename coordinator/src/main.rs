//! The program: reads its configuration, takes its folders, opens its doors, and runs until it is told to stop.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use coordinator::{Config, Held, Listeners};
use protocol::settings::{EXIT_BAD_CONFIGURATION, Sources};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const USAGE: &str = "usage: code-workers-coordinator [--config FILE] [--version]\n";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let mut file = None;
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--config") => match arguments.next() {
                Some(path) => file = Some(path),
                None => return complain(USAGE, 2),
            },
            Some("--version") => {
                return say(&format!("code-workers-coordinator {}\n", env!("CARGO_PKG_VERSION")), 0);
            }
            Some("--help" | "-h") => return say(USAGE, 0),
            _ => return complain(USAGE, 2),
        }
    }
    let config = Sources::read(file.as_deref().map(AsRef::as_ref))
        .and_then(|(sources, folders)| Config::parse(sources, folders));
    let config = match config {
        Ok(config) => config,
        Err(faults) => {
            return complain(&format!("code-workers-coordinator: {faults}\n"), EXIT_BAD_CONFIGURATION);
        }
    };
    log(config.json_logs);
    raise_open_files();
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("code-workers-coordinator: {error}\n"), 1),
    }
}

#[tokio::main]
async fn start(config: Config) -> anyhow::Result<()> {
    let held = Held::take(config.folders.clone())?;
    let listeners = Listeners::bind(&held, config.bind).await?;
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let on_signal = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        on_signal.cancel();
    });
    tracing::info!(
        owner = %listeners.owner_tcp.local_addr()?,
        worker = %config.folders.worker_socket().display(),
        data = %config.folders.data.display(),
        "listening"
    );
    tell_service_manager();
    coordinator::run(held, listeners, config, stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Where one started us it waits for this.
fn tell_service_manager() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!("the service manager could not be told that all is ready: {error}");
    }
}

/// Each waiting worker and each stream takes a connection, and the usual soft limit of 1,024 is only for programs
/// that use `select`.
fn raise_open_files() {
    let hard = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }) {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}

fn log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let logs = logs.with_ansi(std::io::stderr().is_terminal()).log_internal_errors(false);
    if json {
        logs.json().init();
    } else {
        logs.init();
    }
}

fn say(text: &str, code: u8) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(text: &str, code: u8) -> ExitCode {
    // There is nobody left to tell.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    ExitCode::from(code)
}
