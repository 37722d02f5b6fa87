//! Listening: over TCP for this machine, over unix sockets for the doors.

use std::{
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

use axum::serve::Listener;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::{Gateway, http};

/// Serves agents until `shutdown`, then until their streams have ended.
///
/// # Errors
/// When the listener fails.
pub async fn agents<L>(listener: L, gateway: Arc<Gateway>, shutdown: CancellationToken) -> io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    axum::serve(listener, http::agents::router(gateway))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// Serves the coordinator until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn admin<L>(listener: L, gateway: Arc<Gateway>, shutdown: CancellationToken) -> io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    axum::serve(listener, http::admin::router(gateway))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// Makes a folder, and those above it, for this user alone.
///
/// # Errors
/// What the system said.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Listens on a unix socket. A socket that nobody listens on any more is replaced.
///
/// # Errors
/// `AddrInUse` where somebody listens; else what the system said.
pub async fn unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match UnixStream::connect(path).await {
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another gateway listens there: stop it first",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}
