//! `code-workers-relay`: the program around the room. It only wires.

use std::io::{ErrorKind, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use relay::server::DEFAULT_MAX_CONNECTIONS;
use relay::{DialAddress, Limits, ListenAddress, Listener, run};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code for arguments that cannot be used.
const BAD_ARGUMENTS: u8 = 64;

/// Copies bytes between tcp://HOST:PORT, unix:///PATH and vsock://CID:PORT.
#[derive(Parser)]
#[command(name = "code-workers-relay", version)]
struct Arguments {
    /// Where to listen: tcp://127.0.0.1:PORT (port 0 takes a free one), unix:///PATH or vsock://any:PORT
    #[arg(long, value_name = "URI")]
    listen: String,
    /// What to dial for every connection
    #[arg(long, value_name = "URI")]
    dial: String,
    /// Connections at once; those beyond wait to be accepted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_CONNECTIONS.to_string())]
    max_connections: String,
    /// The permissions of a unix socket's file, in octal
    #[arg(long, value_name = "OCTAL", default_value = "0600")]
    mode: String,
    /// End when standard input ends, and so with the parent that holds its other end
    #[arg(long)]
    exit_with_stdin: bool,
}

struct Config {
    listen: ListenAddress,
    dial: DialAddress,
    limits: Limits,
    mode: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    // A standard error that nobody reads any more must not end the program.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).log_internal_errors(false).init();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(BAD_ARGUMENTS) } else { ExitCode::SUCCESS };
        }
    };
    let config = match configure(&arguments) {
        Ok(config) => config,
        Err(faults) => {
            for fault in faults {
                tracing::error!("{fault}");
            }
            return ExitCode::from(BAD_ARGUMENTS);
        }
    };
    match serve(config, arguments.exit_with_stdin).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Reads all arguments, so that every fault is told at once.
fn configure(arguments: &Arguments) -> Result<Config, Vec<String>> {
    let mut faults = Vec::new();
    let mut fault = |name: &str, what: String| faults.push(format!("--{name}: {what}"));
    let listen: Option<ListenAddress> =
        arguments.listen.parse().map_err(|error| fault("listen", format!("{error}"))).ok();
    let dial: Option<DialAddress> =
        arguments.dial.parse().map_err(|error| fault("dial", format!("{error}"))).ok();
    if let (Some(listen), Some(dial)) = (&listen, &dial)
        && listen.get() == dial.get()
    {
        fault("dial", "it is the address to listen on; the relay would dial itself".to_owned());
    }
    let max_connections: Option<NonZeroUsize> = arguments.max_connections.parse().ok();
    if max_connections.is_none() {
        fault("max-connections", format!("{:?} is not a number above 0", arguments.max_connections));
    }
    let mode = u32::from_str_radix(&arguments.mode, 8).ok().filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        fault("mode", format!("{:?} is not an octal mode from 0 to 0777", arguments.mode));
    }
    match (listen, dial, max_connections, mode) {
        (Some(listen), Some(dial), Some(max_connections), Some(mode)) if faults.is_empty() => {
            Ok(Config { listen, dial, limits: Limits { max_connections, ..Limits::default() }, mode })
        }
        _ => Err(faults),
    }
}

async fn serve(config: Config, exit_with_stdin: bool) -> anyhow::Result<()> {
    // Between bind and chmod a socket must not be more open than it will be.
    umask(Mode::RWXG | Mode::RWXO);
    allow_files(config.limits.max_connections);
    let listener = Listener::bind(&config.listen, config.mode).await?;
    let shutdown = CancellationToken::new();
    end_on_signals(shutdown.clone())?;
    if exit_with_stdin {
        end_with_stdin(shutdown.clone());
    }
    let address = listener.address()?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {address}")
        .and_then(|()| stdout.flush())
        .context("cannot write to stdout")?;
    drop(stdout);
    run(listener, config.dial, config.limits, shutdown).await;
    Ok(())
}

/// Raises the limit of open files as far as it goes: a connection needs two.
fn allow_files(max_connections: NonZeroUsize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let reached = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let needed = (max_connections.get() as u64).saturating_mul(2).saturating_add(FILES_OF_ITS_OWN);
    if reached.is_some_and(|reached| reached < needed) {
        tracing::warn!("{max_connections} connections need {needed} open files: raise the limit (ulimit -n)");
    }
}

/// Open files that are no connection: the standard streams, the listener, the runtime's.
const FILES_OF_ITS_OWN: u64 = 16;

fn end_on_signals(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    });
    Ok(())
}

/// A thread of its own: a read of standard input that the runtime began would hold up the end of the program.
fn end_with_stdin(shutdown: CancellationToken) {
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        let mut stdin = std::io::stdin();
        loop {
            match stdin.read(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        shutdown.cancel();
    });
}
