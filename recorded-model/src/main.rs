//! `code-workers-recorded-model`: the program around the room. It only wires.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use recorded_model::log::RequestLog;
use recorded_model::script::Script;
use recorded_model::{Config, run};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code for arguments or turns that cannot be used.
const BAD_CONFIGURATION: u8 = 64;

/// Plays recorded turns as a model API: Anthropic's Messages, OpenAI's Chat Completions and Responses.
#[derive(Parser)]
#[command(name = "code-workers-recorded-model", version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one, which the first line of output names
    #[arg(long, value_name = "127.0.0.1:PORT")]
    listen: SocketAddr,
    /// The turns to play: a TOML file, or a JSON one when its name ends in .json
    #[arg(long, value_name = "FILE")]
    turns: PathBuf,
    /// Append one JSON line a request to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Write whole bodies into the log too
    #[arg(long, requires = "log")]
    log_bodies: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    // A standard error that nobody reads any more must not end the program.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).log_internal_errors(false).init();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(BAD_CONFIGURATION) } else { ExitCode::SUCCESS };
        }
    };
    let config = match configure(&arguments) {
        Ok(config) => config,
        Err(faults) => {
            tracing::error!("{faults}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    match serve(arguments.listen, config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn configure(arguments: &Arguments) -> Result<Config, String> {
    let mut faults = Vec::new();
    if !arguments.listen.ip().is_loopback() {
        faults.push(format!("--listen {} is not a loopback address: use 127.0.0.1", arguments.listen));
    }
    let script = Script::load(&arguments.turns).map_err(|fault| faults.push(fault)).ok();
    let log = match &arguments.log {
        Some(path) => RequestLog::open(path, arguments.log_bodies).map_err(|fault| faults.push(fault)).ok(),
        None => Some(RequestLog::default()),
    };
    match (script, log) {
        (Some(script), Some(log)) if faults.is_empty() => Ok(Config { script, log }),
        _ => Err(faults.join("\n")),
    }
}

async fn serve(address: SocketAddr, config: Config) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    // Before the line that tells of the port: whoever waits for it may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    drop(stdout);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    run(listener, config, shutdown).await.context("the listener failed")
}
