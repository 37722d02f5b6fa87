//! The coordinator's folders and sockets: made by it, and its alone while it runs.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use protocol::folders::Folders;
use rustix::fs::{FlockOperation, flock};
use tokio::net::{TcpListener, UnixListener};

/// Why the coordinator cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CannotBegin {
    /// A folder or file.
    #[error("{}: {why}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// Another coordinator.
    #[error("{}: another coordinator runs on this folder; stop it first", path.display())]
    Taken {
        /// Its folder or socket.
        path: PathBuf,
    },
    /// The port.
    #[error("cannot listen on {address}: {why}; stop what listens there, or set COORDINATOR_BIND")]
    Port {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        why: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CannotBegin {
    let path = path.to_owned();
    move |why| CannotBegin::Path { path, why }
}

/// The folders, held by this process until it is dropped.
#[derive(Debug)]
pub struct Held {
    _lock: File,
    /// Which.
    pub folders: Folders,
}

impl Held {
    /// Makes the folders where they are not there, and locks the data folder.
    ///
    /// # Errors
    /// A folder that cannot be made or written, or another coordinator on it.
    pub fn take(folders: Folders) -> Result<Self, CannotBegin> {
        let private = [&folders.data, &folders.run];
        let inner = [folders.output(), folders.data.join("artifacts"), folders.data.join("mirrors")];
        for folder in private.into_iter().chain(&inner) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
        }
        fs::set_permissions(&folders.run, Permissions::from_mode(0o700)).map_err(at(&folders.run))?;
        let path = folders.coordinator_db().with_extension("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(at(&path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _lock: lock, folders }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(CannotBegin::Taken { path: folders.data }),
            Err(error) => Err(at(&path)(error.into())),
        }
    }
}

/// The doors, open.
#[derive(Debug)]
pub struct Listeners {
    /// The owner's, over TCP.
    pub owner_tcp: TcpListener,
    /// The owner's, over a socket.
    pub owner_unix: UnixListener,
    /// The worker's.
    pub worker: UnixListener,
}

impl Listeners {
    /// Opens the doors. Sockets that a dead coordinator left are replaced.
    ///
    /// # Errors
    /// A port or a socket that is taken, or cannot be made.
    pub async fn bind(held: &Held, address: std::net::SocketAddr) -> Result<Self, CannotBegin> {
        let port = TcpListener::bind(address).await;
        Ok(Self {
            owner_tcp: port.map_err(|why| CannotBegin::Port { address, why })?,
            owner_unix: socket(&held.folders.owner_socket())?,
            worker: socket(&held.folders.worker_socket())?,
        })
    }
}

fn socket(path: &Path) -> Result<UnixListener, CannotBegin> {
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        if UnixStream::connect(path).is_ok() {
            return Err(CannotBegin::Taken { path: path.to_owned() });
        }
        fs::remove_file(path).map_err(at(path))?;
    }
    let listener = UnixListener::bind(path).map_err(at(path))?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(at(path))?;
    Ok(listener)
}
