//! Accepts, dials, and ends in order.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::address::DialAddress;
use crate::connection::{Connection, Listener};
use crate::copy::copy;

/// The connections that are copied at once, unless told otherwise.
pub const DEFAULT_MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// How long running connections may go on after the relay was told to end.
pub const DRAIN: Duration = Duration::from_secs(10);

/// The pause after a failed accept, which most often means that there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What bounds a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; those beyond wait in the listener's queue.
    pub max_connections: NonZeroUsize,
    /// How long running connections may go on after shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_connections: DEFAULT_MAX_CONNECTIONS, drain: DRAIN }
    }
}

/// Relays every connection of `listener` to `dial` until `shutdown`.
///
/// Then nothing more is accepted, what runs may go on for `limits.drain`, and what runs on is cut.
pub async fn run(listener: Listener, dial: DialAddress, limits: Limits, shutdown: CancellationToken) {
    let dial = Arc::new(dial);
    let places = Arc::new(Semaphore::new(limits.max_connections.get().min(Semaphore::MAX_PERMITS)));
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = running.join_next() => {}
            accepted = accept(&listener, &places) => match accepted {
                Ok((client, place)) => {
                    running.spawn(relay(client, Arc::clone(&dial), place));
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}; trying again in {ACCEPT_PAUSE:?}");
                    tokio::select! {
                        () = shutdown.cancelled() => break,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    }
                }
            },
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(limits.drain, async { while running.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!("cutting {} connections that did not end in {:?}", running.len(), limits.drain);
        running.shutdown().await;
    }
}

/// Takes a place first, so that whoever finds none waits in the listener's queue and is not dropped.
async fn accept(
    listener: &Listener,
    places: &Arc<Semaphore>,
) -> io::Result<(Connection, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?, place))
}

async fn relay(client: Connection, dial: Arc<DialAddress>, place: OwnedSemaphorePermit) {
    match Connection::dial(&dial).await {
        Ok(peer) => match copy(client, peer).await {
            Ok(copied) => tracing::debug!(?copied, "a connection ended"),
            Err(error) => tracing::debug!("a connection broke: {error}"),
        },
        Err(error) => tracing::warn!("cannot dial {}: {error}; the client is disconnected", dial.get()),
    }
    drop(place);
}
