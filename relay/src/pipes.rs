//! Pipes that the kernel moves bytes through, from socket to socket, without their passing through here.
//!
//! They are lent while bytes are under way and given back when all have left, so that a connection that waits holds
//! none, however many there are.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a pipe holds, in bytes. A side that takes nothing leaves so much under way, and the rest with its sender.
pub const PIPE_BYTES: usize = 128 << 10;

/// The most pipes of a relay. Who finds none has its bytes copied.
pub const MAX_PIPES: usize = 128;

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// All pipes of a relay.
#[derive(Debug)]
pub struct Pipes {
    idle: Mutex<Vec<Pipe>>,
    places: Arc<Semaphore>,
    refused: AtomicBool,
}

/// A pipe: closed when it is dropped, since it may hold bytes then.
#[derive(Debug)]
pub(crate) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
    _place: OwnedSemaphorePermit,
}

impl Default for Pipes {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(MAX_PIPES));
        Self { idle: Mutex::default(), places, refused: AtomicBool::new(false) }
    }
}

impl Pipes {
    /// An empty pipe; none when there are too many, or when the system does not serve these sockets.
    pub(crate) fn lend(&self) -> Option<Pipe> {
        if self.refused.load(Ordering::Relaxed) {
            return None;
        }
        let idle = self.idle().pop();
        idle.or_else(|| Pipe::new(Arc::clone(&self.places).try_acquire_owned().ok()?).ok())
    }

    /// Takes a pipe back for the next, if nothing is left in it.
    pub(crate) fn give_back(&self, pipe: Pipe) {
        if pipe.is_empty() {
            self.idle().push(pipe);
        }
    }

    /// No more pipes: the system does not move bytes between these sockets.
    pub(crate) fn refuse(&self, error: Errno) {
        if !self.refused.swap(true, Ordering::Relaxed) {
            tracing::info!("splice(2) does not serve these sockets ({error}): copying instead");
        }
    }

    /// How many lie ready to be lent.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.idle().len()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Pipe>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipe {
    /// A pipe of the full size, or none: a smaller one, as a user who has many gets it, is slower than copying.
    fn new(place: OwnedSemaphorePermit) -> Result<Self, Errno> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&into, PIPE_BYTES)?;
        Ok(Self { out, into, held: 0, _place: place })
    }

    /// Moves what a socket has into the empty pipe, and says how much: 0 at its end.
    pub(crate) fn fill(&mut self, from: impl AsFd) -> Result<usize, Errno> {
        self.held = splice(from, None, &self.into, None, PIPE_BYTES, FLAGS)?;
        Ok(self.held)
    }

    /// Moves what it holds into a socket, and says how much went; `AGAIN` when that takes no more for now.
    pub(crate) fn drain(&mut self, to: impl AsFd) -> Result<usize, Errno> {
        let moved = splice(&self.out, None, to, None, self.held, FLAGS)?;
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }

    /// Whether nothing is left in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// What it holds, taken out of it.
    pub(crate) fn empty(&mut self) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; self.held];
        let mut at = 0;
        while at < bytes.len() {
            match rustix::io::read(&self.out, &mut bytes[at..])? {
                0 => return Err(Errno::IO),
                read => at += read,
            }
        }
        self.held = 0;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_does_not_leave_can_be_taken_out_again() {
        let pipes = Pipes::default();
        let (mut client, side) = UnixStream::pair().unwrap();
        let mut pipe = pipes.lend().unwrap();
        client.write_all(b"half and half").unwrap();
        assert_eq!(pipe.fill(&side), Ok(13));
        // A file of the kind that splice(2) does not write to.
        let unserved = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        assert_eq!(pipe.drain(&unserved), Err(Errno::INVAL));
        assert_eq!(pipe.empty().unwrap(), b"half and half");
        pipes.give_back(pipe);
        assert_eq!(pipes.waiting(), 1);
    }

    #[test]
    fn a_pipe_that_holds_bytes_is_lent_to_nobody_else() {
        let pipes = Pipes::default();
        let (mut client, side) = UnixStream::pair().unwrap();
        client.write_all(b"of one").unwrap();
        let mut pipe = pipes.lend().unwrap();
        pipe.fill(&side).unwrap();
        pipes.give_back(pipe);
        assert_eq!(pipes.waiting(), 0);
        let mut other = pipes.lend().unwrap();
        client.write_all(b"of two").unwrap();
        other.fill(&side).unwrap();
        let (mut reader, to) = UnixStream::pair().unwrap();
        other.drain(&to).unwrap();
        let mut came = [0; 6];
        reader.read_exact(&mut came).unwrap();
        assert_eq!(&came, b"of two");
    }

    #[test]
    fn there_are_no_more_pipes_than_allowed_and_closed_ones_make_room() {
        let pipes = Pipes::default();
        let mut lent: Vec<_> = (0..MAX_PIPES).map(|_| pipes.lend().unwrap()).collect();
        assert!(pipes.lend().is_none());
        drop(lent.pop());
        assert!(pipes.lend().is_some());
    }
}
