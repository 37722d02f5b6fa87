//! A socket of any family, and waiting for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Poll, ready};

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// A socket of any family, connected or listening. The kernel serves all through the same calls, and of tokio only
/// the readiness is used: `UnixStream` is its type that takes a descriptor without unsafe code.
#[derive(Debug)]
pub struct Socket(UnixStream);

impl Socket {
    /// Takes a socket that does not block.
    ///
    /// # Errors
    /// When the system does not tell of its readiness.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        UnixStream::from_std(fd.into()).map(Self)
    }

    /// Tries when something can be read, and again while there is nothing after all. It counts as readable until a
    /// try says that nothing is there: a short read does not say so, because behind it may stand the end, of which
    /// gVisor tells once, together with the last bytes, where the socket is the host's.
    pub(crate) async fn when_readable<T>(
        &self,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> io::Result<T> {
        std::future::poll_fn(|context| {
            loop {
                ready!(self.0.poll_read_ready(context))?;
                let mut result = Err(Errno::AGAIN);
                // Errors that it sees are not told to us: they only clear the readiness.
                let _ = self.0.try_io(Interest::READABLE, || {
                    result = attempt(self.as_fd());
                    let nothing = matches!(result, Err(Errno::AGAIN));
                    if nothing { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
                });
                match result {
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    result => return Poll::Ready(result.map_err(io::Error::from)),
                }
            }
        })
        .await
    }

    /// Tries when something can be written, and again while there is no room after all.
    pub(crate) async fn when_writable<T>(
        &self,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> io::Result<T> {
        std::future::poll_fn(|context| {
            loop {
                ready!(self.0.poll_write_ready(context))?;
                match self.0.try_io(Interest::WRITABLE, || Ok(attempt(self.as_fd())?)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => return Poll::Ready(result),
                }
            }
        })
        .await
    }

    /// Tells the other end that nothing more comes from here.
    pub(crate) fn end(&self) -> Result<(), Errno> {
        shutdown(&self.0, Shutdown::Write)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
