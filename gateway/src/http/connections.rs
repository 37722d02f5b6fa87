//! The agents' connections: HTTP/1.1 alone, each in a task of its own, as light as can be.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::serve::Listener;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::agents;
use crate::Gateway;

/// How long the head of a request may take; between two requests a connection may wait as long.
const HEAD: Duration = Duration::from_secs(120);

/// Serves agents until `shutdown`, then until their streams have ended, or the gateway is cut.
pub async fn run<L: Listener>(mut listener: L, gateway: Arc<Gateway>, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let (io, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        connections.spawn(serve::<L>(io, Arc::clone(&gateway), shutdown.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve<L: Listener>(io: L::Io, gateway: Arc<Gateway>, shutdown: CancellationToken) {
    let service = service_fn(|request| {
        let gateway = Arc::clone(&gateway);
        // In a box of its own, which goes with the answer's head: what a connection keeps stays small.
        async move { Ok::<_, Infallible>(Box::pin(agents::serve(&gateway, request)).await) }
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
