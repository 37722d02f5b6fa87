//! The sockets that the doors listen on.

use std::{
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use tokio::net::{UnixListener, UnixStream};

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
