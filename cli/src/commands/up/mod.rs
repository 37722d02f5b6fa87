//! `up`: keeps the coordinator and the gateway running.

use std::{ffi::OsString, path::Path};

use protocol::settings::{Settings, Sources};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Exit, Failure},
    programs,
    terminal::{note, say},
};

mod addresses;
mod owner_key;
mod server;

use addresses::{Addresses, GATEWAY};
use server::Server;

/// Starts both, says `ready` once both answer, and ends when it is told to, or when one cannot run.
pub(crate) async fn run(config: Option<&Path>) -> Result<Exit, Failure> {
    let (sources, folders) = Sources::read(config)?;
    let sources = owner_key::ensure(sources, &folders)?;
    let mut settings = Settings::new(sources);
    let addresses = Addresses::read(&mut settings, &folders);
    let real_keys = settings.real_key_variables();
    let addresses = settings.finish(addresses)?;
    addresses.require_free()?;
    let stop = CancellationToken::new();
    let (answered, mut answers) = mpsc::channel(2);
    let mut running = JoinSet::new();
    for (program, address) in addresses.of_programs() {
        let server = Server {
            program: programs::find(program)?,
            arguments: config
                .into_iter()
                .flat_map(|file| [OsString::from("--config"), file.into()])
                .collect(),
            // Each holds its own secret alone.
            hidden: if program == GATEWAY { vec![owner_key::VARIABLE.to_owned()] } else { real_keys.clone() },
            address: address.clone(),
        };
        running.spawn(server::keep_running(server, answered.clone(), stop.clone()));
    }
    drop(answered);
    watch(&addresses, &mut running, &mut answers, &stop).await
}

async fn watch(
    addresses: &Addresses,
    running: &mut JoinSet<Result<(), Failure>>,
    answers: &mut mpsc::Receiver<()>,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    let no_signals = |error| Failure::new(Exit::Failed, format!("signals cannot be watched: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut silent = running.len();
    let mut outcome = Ok(Exit::Succeeded);
    loop {
        tokio::select! {
            _ = interrupt.recv() => stop.cancel(),
            _ = terminate.recv() => stop.cancel(),
            Some(()) = answers.recv() => {
                silent -= 1;
                if silent == 0 && !stop.is_cancelled() {
                    let gateway = addresses.gateway.as_ref();
                    let gateway = gateway.map_or_else(|| "not ours (key_source)".to_owned(), ToString::to_string);
                    say(&format!("ready: coordinator {}, gateway {gateway}", addresses.coordinator))?;
                }
            }
            ended = running.join_next() => match ended {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(failure))) => {
                    if outcome.is_ok() {
                        outcome = Err(failure);
                    }
                    stop.cancel();
                }
                Some(Err(error)) => {
                    note(&format!("code-workers: {error}"));
                    stop.cancel();
                }
                None => return outcome,
            },
        }
    }
}
