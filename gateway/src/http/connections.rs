//! The agents' connections: HTTP/1.1 alone, each in a task of its own, as light as can be.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::serve::Listener;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::{
    agents,
    lanes::{Lanes, Moves},
};
use crate::{Gateway, upstream::Wires};

/// How long the head of a request may take; between two requests a connection may wait as long.
const HEAD: Duration = Duration::from_secs(120);

/// Serves agents until `shutdown`; then `lanes` have those that are still there.
pub async fn run<L>(mut listener: L, gateway: Arc<Gateway>, lanes: Arc<Lanes>, shutdown: CancellationToken)
where
    L: Listener<Io: Moves>,
{
    loop {
        let (io, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let (gateway, shutdown) = (Arc::clone(&gateway), shutdown.clone());
        match (io.loosen(), lanes.emptiest()) {
            (Ok(loose), Some(lane)) => {
                let wires = Arc::clone(&lane.wires);
                lane.spawn(async move {
                    match L::Io::join(loose) {
                        Ok(io) => serve(io, gateway, wires, shutdown).await,
                        Err(error) => tracing::warn!("a connection is dropped: {error}"),
                    }
                });
            }
            (Err(error), _) => tracing::warn!("a connection is dropped: {error}"),
            (_, None) => tracing::error!("a connection is dropped: nobody serves"),
        }
    }
}

async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin,
    gateway: Arc<Gateway>,
    wires: Arc<Wires>,
    shutdown: CancellationToken,
) {
    let service = service_fn(|request| {
        let (gateway, wires) = (Arc::clone(&gateway), Arc::clone(&wires));
        // In a box of its own, which goes with the answer's head: what a connection keeps stays small.
        async move { Ok::<_, Infallible>(Box::pin(agents::serve(&gateway, &wires, request)).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = gateway.cut.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}
