//! Listening: on an address, or on a socket that the service manager made.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_reuseaddr, set_tcp_nodelay, socket_acceptconn, socket_domain};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketType, accept_with, bind, getsockname, listen, socket_with,
};
use thiserror::Error;
use tokio_vsock::{VsockAddr, VsockListener};

use crate::address::{Address, AddressError, ListenAddress};
use crate::dial::FLAGS;
use crate::short_path::ShortPath;
use crate::socket::Socket;

/// How many may wait to be accepted; the system bounds it further (`net.core.somaxconn`).
const QUEUE: i32 = 4096;

/// Something that accepts connections. Dropping one that made a socket's file removes it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
    _file: Option<SocketFile>,
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
    /// The socket that was handed over does not accept connections of a family that is relayed.
    #[error(
        "the socket that was handed over does not listen for streams over TCP, unix or vsock: \
         write one ListenStream= into the socket unit, and Accept=no"
    )]
    NotAListener,
    /// The socket that was handed over listens where it must not.
    #[error("the socket that was handed over: {0}")]
    Refused(#[from] AddressError),
    /// The socket that was handed over cannot be looked at.
    #[error("the socket that was handed over cannot be used: {0}")]
    Inherited(io::Error),
}

/// The file of a unix socket, removed when dropped if it is still the one that was bound.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listener {
    /// Listens. `mode` is the permission of a unix socket's file; a stale file is replaced.
    ///
    /// # Errors
    /// [`ListenError`], which names the address and the remedy.
    pub fn bind(wanted: &ListenAddress, mode: u32) -> Result<Self, ListenError> {
        let address = wanted.get();
        let system = |error| ListenError::System { address: address.clone(), error };
        let (fd, file) = match address {
            Address::Tcp { host, port } => (tcp(host, *port).map_err(system)?, None),
            Address::Vsock { cid, port } => {
                let listener = VsockListener::bind(VsockAddr::new(*cid, *port)).map_err(system)?;
                (OwnedFd::from(listener), None)
            }
            Address::Unix(path) => {
                clear_the_way(path, address)?;
                let (fd, file) = unix(path, mode).map_err(system)?;
                (fd, Some(file))
            }
        };
        let address = told(&fd, address.clone()).map_err(system)?;
        let socket = Socket::new(fd).map_err(system)?;
        Ok(Self { socket, address, _file: file })
    }

    /// Accepts on a socket that listens already; its file is its maker's. Of TCP, only loopback is taken.
    ///
    /// # Errors
    /// [`ListenError`] when it does not listen, or listens where it must not.
    pub fn inherited(fd: OwnedFd) -> Result<Self, ListenError> {
        let inherited = |error: Errno| ListenError::Inherited(error.into());
        if !socket_acceptconn(&fd).map_err(inherited)? {
            return Err(ListenError::NotAListener);
        }
        rustix::io::ioctl_fionbio(&fd, true).map_err(inherited)?;
        let address = address_of(&fd).map_err(ListenError::Inherited)?.ok_or(ListenError::NotAListener)?;
        let address = ListenAddress::try_from(address)?.get().clone();
        let socket = Socket::new(fd).map_err(ListenError::Inherited)?;
        Ok(Self { socket, address, _file: None })
    }

    /// The address that it listens on, with the actual port.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for a connection. May be dropped while it waits without losing one.
    ///
    /// # Errors
    /// The system's; most pass when a connection ends.
    pub async fn accept(&self) -> io::Result<Socket> {
        let accepted = |fd: BorrowedFd<'_>| accept_with(fd, FLAGS);
        let accepted = self.socket.when_readable(accepted).await?;
        if matches!(self.address, Address::Tcp { .. }) {
            // One that is gone already is met by the first read.
            let _ = set_tcp_nodelay(&accepted, true);
        }
        Socket::new(accepted)
    }
}

fn tcp(host: &str, port: u16) -> io::Result<OwnedFd> {
    let ip: IpAddr = host.parse().map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket_with(family, SocketType::STREAM, FLAGS, None)?;
    set_socket_reuseaddr(&fd, true)?;
    bind(&fd, &SocketAddr::new(ip, port))?;
    listen(&fd, QUEUE)?;
    Ok(fd)
}

fn unix(path: &Path, mode: u32) -> io::Result<(OwnedFd, SocketFile)> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    let short = ShortPath::to(path)?;
    bind(&fd, &SocketAddrUnix::new(short.path())?)?;
    let file = SocketFile::of(path.to_owned())?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    listen(&fd, QUEUE)?;
    Ok((fd, file))
}

/// What was asked for, with the port that the system chose.
fn told(fd: &OwnedFd, asked: Address) -> io::Result<Address> {
    Ok(match asked {
        Address::Tcp { host, port: 0 } => {
            Address::Tcp { host, port: SocketAddr::try_from(getsockname(fd)?)?.port() }
        }
        asked => asked,
    })
}

/// Where a socket listens; `None` for a family that is not relayed, or a unix socket without a path.
fn address_of(fd: &OwnedFd) -> io::Result<Option<Address>> {
    let family = socket_domain(fd)?;
    if family == AddressFamily::VSOCK {
        let listener = VsockListener::from(fd.try_clone()?);
        let address = listener.local_addr()?;
        return Ok(Some(Address::Vsock { cid: address.cid(), port: address.port() }));
    }
    let name = getsockname(fd)?;
    if family == AddressFamily::UNIX {
        let name = SocketAddrUnix::try_from(name)?;
        let path = name.path_bytes().map(|bytes| PathBuf::from(std::ffi::OsStr::from_bytes(bytes)));
        return Ok(path.map(Address::Unix));
    }
    let name = SocketAddr::try_from(name).ok();
    Ok(name.map(|name| Address::Tcp { host: name.ip().to_string(), port: name.port() }))
}

/// Removes a socket file that nobody listens on, and refuses anything else that is there.
fn clear_the_way(path: &Path, address: &Address) -> Result<(), ListenError> {
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
    let short = ShortPath::to(path).map_err(|error| system(error.into()))?;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None);
    let probe = probe.and_then(|probe| rustix::net::connect(&probe, &SocketAddrUnix::new(short.path())?));
    match probe {
        Err(Errno::CONNREFUSED) => {
            tracing::info!("replacing {address}: nobody listens there any more");
            fs::remove_file(path).map_err(system)
        }
        // A full queue is one of somebody who listens.
        Ok(()) | Err(Errno::AGAIN) => Err(ListenError::InUse(address.clone())),
        Err(error) => Err(system(error.into())),
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
