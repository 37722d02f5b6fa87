//! Accepts, dials, and ends in order.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::address::DialAddress;
use crate::copy::copy;
use crate::counters::{Counters, down, up};
use crate::dial::dial;
use crate::limits::{Activity, Cut, Limits};
use crate::listen::Listener;
use crate::pipes::Pipes;
use crate::seldom::Seldom;
use crate::socket::Socket;

/// The pause after an accept that found no file or memory, unless a connection ends before.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// All that the connections of a relay share.
#[derive(Debug)]
struct Shared {
    dial: DialAddress,
    limits: Limits,
    pipes: Pipes,
    counters: Arc<Counters>,
    /// A worker that finds no server asks many times a second.
    no_dial: Seldom,
}

/// Relays every connection of `listener` to `dial` until `shutdown`.
///
/// Then nothing more is accepted, what runs may go on for `limits.drain`, and what runs on is cut.
pub async fn run(
    listener: Listener,
    dial: DialAddress,
    limits: Limits,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
) {
    let shared =
        Arc::new(Shared { dial, limits, pipes: Pipes::default(), counters, no_dial: Seldom::default() });
    let places = Arc::new(Semaphore::new(limits.max_connections.get().min(Semaphore::MAX_PERMITS)));
    let mut running = JoinSet::new();
    let mut full = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = running.join_next() => {}
            accepted = accept(&listener, &places) => match accepted {
                Ok((client, place)) => {
                    full = false;
                    up(&shared.counters.accepted);
                    running.spawn(relay(client, Arc::clone(&shared), place));
                }
                Err(error) => {
                    shared.counters.error("accept", &error);
                    if !of_one_connection(&error) {
                        if !std::mem::replace(&mut full, true) {
                            tracing::warn!("cannot accept connections: {error}; they wait until it can");
                        }
                        tokio::select! {
                            () = shutdown.cancelled() => break,
                            Some(_) = running.join_next() => {}
                            () = tokio::time::sleep(FULL_PAUSE) => {}
                        }
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
async fn accept(listener: &Listener, places: &Arc<Semaphore>) -> io::Result<(Socket, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?, place))
}

/// Whether an accept failed for the connection alone that it would have brought, and the next may be asked for at once
/// (accept(2) names them).
fn of_one_connection(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| {
        matches!(
            errno,
            Errno::CONNABORTED
                | Errno::PERM
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::TIMEDOUT
        )
    })
}

/// A connection that is counted as open until this is dropped.
struct Open<'a>(&'a Counters);

impl<'a> Open<'a> {
    fn new(counters: &'a Counters) -> Self {
        up(&counters.open);
        Self(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        down(&self.0.open);
    }
}

async fn relay(client: Socket, shared: Arc<Shared>, place: OwnedSemaphorePermit) {
    let Shared { dial: to, limits, pipes, counters, no_dial } = &*shared;
    let _open = Open::new(counters);
    let activity = Activity::begin();
    match dial(to).await {
        Ok(peer) => tokio::select! {
            ended = copy(&client, &peer, pipes, counters, &activity) => {
                if let Err(error) = ended {
                    tracing::debug!("a connection broke: {error}");
                    counters.error("read", &error);
                }
            }
            cut = activity.over(limits) => {
                tracing::debug!("a connection is cut: {cut:?}");
                up(match cut { Cut::Idle => &counters.cut_idle, Cut::Lifetime => &counters.cut_lifetime });
            }
        },
        Err(error) => {
            if let Some(kept) = no_dial.say(Instant::now()) {
                let before =
                    if kept == 0 { String::new() } else { format!(" ({kept} more since it was said)") };
                tracing::warn!("cannot dial {}: {error}; the client is disconnected{before}", to.get());
            }
            up(&counters.refused);
            counters.error("dial", &error);
        }
    }
    drop(place);
}
