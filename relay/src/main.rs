//! `code-workers-relay`: the program around the room. It only wires.

mod arguments;
mod manager;

use std::io::{ErrorKind, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use relay::pipes::MAX_PIPES;
use relay::{Counters, DialAddress, Limits, ListenAddress, Listener, run};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use arguments::{Arguments, Config, Source};

/// The exit code for arguments that cannot be used.
const BAD_ARGUMENTS: u8 = 64;

/// Open files that are neither a connection nor a pipe: the standard streams, the listener, the runtime's.
const FILES_OF_ITS_OWN: u64 = 32;

/// How long the end waits for what the service manager does not read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where connections come from, with the socket in hand if it was handed over.
enum Opened {
    Address(ListenAddress, u32),
    Inherited(OwnedFd),
}

fn main() -> ExitCode {
    // A standard error that nobody reads any more must not end the program.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).log_internal_errors(false).init();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(BAD_ARGUMENTS) } else { ExitCode::SUCCESS };
        }
    };
    let config = match arguments.read() {
        Ok(config) => config,
        Err(faults) => {
            for fault in faults {
                tracing::error!("{fault}");
            }
            return ExitCode::from(BAD_ARGUMENTS);
        }
    };
    match start(config, arguments.exit_with_stdin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config, exit_with_stdin: bool) -> anyhow::Result<()> {
    // Between bind and chmod a socket must not be more open than it will be.
    umask(Mode::RWXG | Mode::RWXO);
    let limits = Limits { max_connections: allowed(config.limits.max_connections), ..config.limits };
    // Before the runtime makes threads, which the environment must not change under.
    let source = match config.source {
        Source::Address(address, mode) => Opened::Address(address, mode),
        Source::Inherited => Opened::Inherited(manager::inherited()?),
    };
    // One thread: what a connection needs is a few system calls, and to wake another thread costs as much as they do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let listener = match source {
            Opened::Address(address, mode) => Listener::bind(&address, mode)?,
            Opened::Inherited(socket) => Listener::inherited(socket)?,
        };
        serve(listener, config.dial, limits, exit_with_stdin).await
    });
    runtime.shutdown_timeout(LAST_WORDS);
    served
}

async fn serve(
    listener: Listener,
    dial: DialAddress,
    limits: Limits,
    exit_with_stdin: bool,
) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    end_on_signals(shutdown.clone())?;
    if exit_with_stdin {
        end_with_stdin(shutdown.clone());
    }
    let counters = Arc::new(Counters::default());
    log_on_signal(Arc::clone(&counters))?;
    tell_address(&listener).context("cannot write to stdout")?;
    manager::tell(NotifyState::Ready).await;
    let ending = shutdown.clone();
    let telling = tokio::spawn(async move {
        tokio::select! {
            () = ending.cancelled() => manager::tell(NotifyState::Stopping).await,
            () = manager::tell_of_life() => {}
        }
    });
    run(listener, dial, limits, counters, shutdown).await;
    // With nothing to drain, the end would come before it is told.
    let _ = tokio::time::timeout(LAST_WORDS, telling).await;
    Ok(())
}

fn tell_address(listener: &Listener) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {}", listener.address())?;
    stdout.flush()
}

/// Raises the limit of open files as far as it goes, and says how many connections that allows: each needs two.
fn allowed(wanted: NonZeroUsize) -> NonZeroUsize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let reached = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let Some(files) = reached else { return wanted };
    let others = FILES_OF_ITS_OWN + 2 * MAX_PIPES as u64;
    let room = usize::try_from(files.saturating_sub(others) / 2).unwrap_or(usize::MAX);
    let room = NonZeroUsize::new(room).unwrap_or(NonZeroUsize::MIN);
    if room < wanted {
        tracing::warn!(
            "{files} open files allow {room} connections at once, not {wanted}: raise the limit (ulimit -n, LimitNOFILE=)"
        );
    }
    room.min(wanted)
}

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

fn log_on_signal(counters: Arc<Counters>) -> std::io::Result<()> {
    let mut asked = signal(SignalKind::user_defined1())?;
    tokio::spawn(async move {
        while asked.recv().await.is_some() {
            tracing::info!("{counters}");
        }
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
