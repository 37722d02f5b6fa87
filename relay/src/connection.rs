//! Listening and dialling: one connection type over the three families.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_vsock::{VsockAddr, VsockListener, VsockStream};

use crate::address::{Address, DialAddress, ListenAddress};
use crate::short_path::ShortPath;

/// The longest wait for a dialled peer to answer.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The wait before a unix socket whose queue was full is dialled again: unlike TCP, it does not queue us.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// A connection of any family.
#[derive(Debug)]
pub enum Connection {
    /// Over TCP, with Nagle's delay off.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
    /// Over vsock.
    Vsock(VsockStream),
}

/// Something that accepts connections. Dropping a unix one removes its file.
#[derive(Debug)]
pub enum Listener {
    /// On TCP.
    Tcp(TcpListener),
    /// On a unix socket.
    Unix(UnixListener, SocketFile),
    /// On vsock.
    Vsock(VsockListener),
}

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Another program accepts connections there.
    #[error("{0} is in use: another program listens there; stop it, or choose another path")]
    InUse(Address),
    /// Something that is not a socket stands in the way.
    #[error("{0} is not a socket: it is left alone; remove it, or choose another path")]
    NotASocket(Address),
    /// The folder of the socket is missing.
    #[error("cannot listen on {address}: the folder {} does not exist; create it first", folder.display())]
    NoFolder {
        /// The address.
        address: Address,
        /// Its folder.
        folder: PathBuf,
    },
    /// What the system says.
    #[error("cannot listen on {address}: {error}")]
    System {
        /// The address.
        address: Address,
        /// The system's reason.
        error: io::Error,
    },
}

/// The file of a unix socket, removed when dropped if it is still the one that was bound.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listener {
    /// Listens. `mode` is the permission of a unix socket's file; a stale file is replaced.
    ///
    /// # Errors
    /// [`ListenError`], which names the address and the remedy.
    pub async fn bind(address: &ListenAddress, mode: u32) -> Result<Self, ListenError> {
        let address = address.get();
        let system = |error| ListenError::System { address: address.clone(), error };
        match address {
            Address::Tcp { host, port } => {
                TcpListener::bind((host.as_str(), *port)).await.map(Self::Tcp).map_err(system)
            }
            Address::Vsock { cid, port } => {
                VsockListener::bind(VsockAddr::new(*cid, *port)).map(Self::Vsock).map_err(system)
            }
            Address::Unix(path) => {
                clear_the_way(path, address).await?;
                let short = ShortPath::to(path).map_err(system)?;
                let listener = UnixListener::bind(short.path()).map_err(system)?;
                let file = SocketFile::of(path.clone()).map_err(system)?;
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(system)?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// The address that it listens on, with the actual port.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr()?;
                Address::Tcp { host: address.ip().to_string(), port: address.port() }
            }
            Self::Unix(_, file) => Address::Unix(file.path.clone()),
            Self::Vsock(listener) => {
                let address = listener.local_addr()?;
                Address::Vsock { cid: address.cid(), port: address.port() }
            }
        })
    }

    /// Waits for a connection. May be dropped while it waits without losing one.
    ///
    /// # Errors
    /// The system's; most pass when a connection ends.
    pub async fn accept(&self) -> io::Result<Connection> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Connection::Tcp(stream)
            }
            Self::Unix(listener, _) => Connection::Unix(listener.accept().await?.0),
            Self::Vsock(listener) => Connection::Vsock(listener.accept().await?.0),
        })
    }
}

impl Connection {
    /// Dials, for [`DIAL_TIMEOUT`] at most.
    ///
    /// # Errors
    /// The system's, or `TimedOut`.
    pub async fn dial(address: &DialAddress) -> io::Result<Self> {
        let timeout = |_| io::Error::new(ErrorKind::TimedOut, format!("no answer in {DIAL_TIMEOUT:?}"));
        tokio::time::timeout(DIAL_TIMEOUT, Self::connect(address.get())).await.map_err(timeout)?
    }

    async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Vsock { cid, port } => {
                VsockStream::connect(VsockAddr::new(*cid, *port)).await.map(Self::Vsock)
            }
            Address::Unix(path) => {
                let short = ShortPath::to(path)?;
                loop {
                    match UnixStream::connect(short.path()).await {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            tokio::time::sleep(FULL_QUEUE_PAUSE).await;
                        }
                        stream => return stream.map(Self::Unix),
                    }
                }
            }
        }
    }
}

/// Removes a socket file that nobody listens on, and refuses anything else that is there.
async fn clear_the_way(path: &Path, address: &Address) -> Result<(), ListenError> {
    let system = |error| ListenError::System { address: address.clone(), error };
    if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
        return Err(ListenError::NoFolder { address: address.clone(), folder: folder.to_owned() });
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(address.clone())),
        Ok(_) => {}
    }
    let short = ShortPath::to(path).map_err(system)?;
    match UnixStream::connect(short.path()).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!("replacing {address}: nobody listens there any more");
            fs::remove_file(path).map_err(system)
        }
        Ok(_) => Err(ListenError::InUse(address.clone())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ListenError::InUse(address.clone())),
        Err(error) => Err(system(error)),
    }
}

impl SocketFile {
    fn of(path: PathBuf) -> io::Result<Self> {
        let found = fs::symlink_metadata(&path)?;
        Ok(Self { path, device: found.dev(), inode: found.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Calls the same method of whichever stream it is.
macro_rules! delegate {
    ($connection:expr, $method:ident ( $($argument:expr),* )) => {
        match $connection.get_mut() {
            Connection::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Connection::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Connection::Vsock(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, poll_read(context, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown(context))
    }
}
