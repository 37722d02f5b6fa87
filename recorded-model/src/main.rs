//! `code-workers-recorded-model`: the program around the room. It only wires.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use recorded_model::log::RequestLog;
use recorded_model::script::Script;
use recorded_model::{record, server};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code for arguments or turns that cannot be used.
const BAD_CONFIGURATION: u8 = 64;

/// Plays recorded turns as a model API: Anthropic's Messages, OpenAI's Chat Completions and Responses.
///
/// With --record it stands before a real API instead, passes everything on, and writes what the model says as turns
/// that it can play: text, tool calls, usage, and whether the length stopped it. Keys and accounts are not written.
#[derive(Parser)]
#[command(name = "code-workers-recorded-model", version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one, which the first line of output names
    #[arg(long, value_name = "127.0.0.1:PORT")]
    listen: SocketAddr,
    /// The turns to play: a TOML file, or a JSON one when its name ends in .json
    #[arg(long, value_name = "FILE", required_unless_present = "record", conflicts_with = "record")]
    turns: Option<PathBuf>,
    /// Record a conversation into this new TOML file
    #[arg(long, value_name = "FILE", requires = "upstream", conflicts_with = "log")]
    record: Option<PathBuf>,
    /// The API that is recorded, such as `https://api.anthropic.com`
    #[arg(long, value_name = "URL", requires = "record")]
    upstream: Option<String>,
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
    let work = match configure(&arguments) {
        Ok(work) => work,
        Err(faults) => {
            tracing::error!("{faults}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    match serve(arguments.listen, work).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the program does.
enum Work {
    Play(server::Config),
    Record(record::Config),
}

fn configure(arguments: &Arguments) -> Result<Work, String> {
    let mut faults = Vec::new();
    if !arguments.listen.ip().is_loopback() {
        faults.push(format!("--listen {} is not a loopback address: use 127.0.0.1", arguments.listen));
    }
    let work = match (&arguments.turns, &arguments.record, &arguments.upstream) {
        (Some(turns), ..) => play(turns, arguments, &mut faults),
        (None, Some(file), Some(url)) => record(file, url, &mut faults),
        _ => None,
    };
    work.filter(|_| faults.is_empty()).ok_or_else(|| faults.join("\n"))
}

fn play(turns: &Path, arguments: &Arguments, faults: &mut Vec<String>) -> Option<Work> {
    let script = Script::load(turns).map_err(|fault| faults.push(fault)).ok();
    let log = match &arguments.log {
        Some(path) => RequestLog::open(path, arguments.log_bodies).map_err(|fault| faults.push(fault)).ok(),
        None => Some(RequestLog::default()),
    };
    Some(Work::Play(server::Config { script: script?, log: log? }))
}

fn record(file: &Path, url: &str, faults: &mut Vec<String>) -> Option<Work> {
    let upstream = record::Upstream::new(url).map_err(|fault| faults.push(fault)).ok()?;
    // Makes the file, so it comes last.
    let keeper = if faults.is_empty() { record::Keeper::create(file) } else { return None };
    let keeper = keeper.map_err(|fault| faults.push(fault)).ok()?;
    Some(Work::Record(record::Config { upstream, keeper }))
}

async fn serve(address: SocketAddr, work: Work) -> anyhow::Result<()> {
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
    let served = match work {
        Work::Play(config) => server::run(listener, config, shutdown).await,
        Work::Record(config) => record::run(listener, config, shutdown).await,
    };
    served.context("the listener failed")
}
