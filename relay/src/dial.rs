//! Dialling: a new connection for each that was accepted.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_nodelay, socket_error};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio_vsock::{VsockAddr, VsockStream};

use crate::address::{Address, DialAddress};
use crate::short_path::ShortPath;
use crate::socket::Socket;

/// The longest wait for a dialled peer to answer.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The wait before a unix socket whose queue was full is dialled again: unlike TCP, it does not queue us.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// The flags of every socket here.
pub(crate) const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Dials, for [`DIAL_TIMEOUT`] at most.
///
/// # Errors
/// The system's, or `TimedOut`.
pub async fn dial(address: &DialAddress) -> io::Result<Socket> {
    // What answers at once needs no timer.
    if let Address::Unix(path) = address.get() {
        match unix(path) {
            Err(Errno::AGAIN) => {}
            dialled => return Socket::new(dialled?),
        }
    }
    let timeout = |_| io::Error::new(ErrorKind::TimedOut, format!("no answer in {DIAL_TIMEOUT:?}"));
    tokio::time::timeout(DIAL_TIMEOUT, patiently(address.get())).await.map_err(timeout)?
}

async fn patiently(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Tcp { host, port } => match host.parse::<IpAddr>() {
            Ok(ip) => tcp(SocketAddr::new(ip, *port)).await,
            Err(_) => named(host, *port).await,
        },
        Address::Vsock { cid, port } => {
            let stream = VsockStream::connect(VsockAddr::new(*cid, *port)).await?;
            Socket::new(OwnedFd::from(stream))
        }
        Address::Unix(path) => loop {
            tokio::time::sleep(FULL_QUEUE_PAUSE).await;
            match unix(path) {
                Err(Errno::AGAIN) => {}
                dialled => return Socket::new(dialled?),
            }
        },
    }
}

/// Tries the addresses of a name in their order.
async fn named(host: &str, port: u16) -> io::Result<Socket> {
    let mut last = io::Error::new(ErrorKind::NotFound, format!("{host} has no address"));
    for address in tokio::net::lookup_host((host, port)).await? {
        match tcp(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn tcp(address: SocketAddr) -> io::Result<Socket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket_with(family, SocketType::STREAM, FLAGS, None)?;
    // Small messages go at once: who sends them has thought of Nagle, or has not and waits for the answer.
    set_tcp_nodelay(&fd, true)?;
    match connect(&fd, &address) {
        Ok(()) => Socket::new(fd),
        Err(Errno::INPROGRESS) => {
            let socket = Socket::new(fd)?;
            socket.when_writable(|fd| socket_error(fd)?).await?;
            Ok(socket)
        }
        Err(error) => Err(error.into()),
    }
}

fn unix(path: &Path) -> Result<OwnedFd, Errno> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    let short = ShortPath::to(path)?;
    connect(&fd, &SocketAddrUnix::new(short.path())?)?;
    Ok(fd)
}
