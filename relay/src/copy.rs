//! Copying between two connections, each direction with an end of its own.
//!
//! `tokio::io::copy_bidirectional` is not enough: it gives up both directions when a write fails, so a server
//! that answers early and stops reading (an HTTP 413, say) would have its answer thrown away with the
//! request (decision 0030).

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::counters::Counters;
use crate::limits::Activity;
use crate::pipes::{Pipe, Pipes};
use crate::socket::Socket;

/// What is read at once, in bytes. One buffer serves all connections of a thread, since none keeps it while it waits.
const BUFFER_BYTES: usize = 64 << 10;

/// Who sends so much at once is likely to go on: its next bytes go through a pipe.
const BULK_BYTES: usize = 32 << 10;

/// After so many reads in a row, others have their turn.
const TURN: u8 = 16;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into());
}

/// One direction.
struct Lane<'a> {
    from: &'a Socket,
    to: &'a Socket,
    pipes: &'a Pipes,
    counters: &'a Counters,
    carried: &'a AtomicU64,
    activity: &'a Activity,
}

/// What a read brought.
enum Step {
    /// Nothing more comes.
    End,
    /// So many bytes, all of which have left.
    Passed(usize),
    /// So many bytes, of which these did not leave at once.
    Held(usize, Held),
    /// The other side takes nothing more.
    Unwanted(io::Error),
}

/// Bytes that are under way.
enum Held {
    Copied(Vec<u8>),
    Piped(Pipe),
}

/// Copies until both directions have ended, and counts what it carries.
///
/// The end of one side is passed on as a half-close and the other direction goes on. A side that takes no more
/// bytes ends the direction towards it only. A side that cannot be read is gone, and ends both.
///
/// # Errors
/// The read error of the side that is gone.
pub(crate) async fn copy(
    client: &Socket,
    peer: &Socket,
    pipes: &Pipes,
    counters: &Counters,
    activity: &Activity,
) -> io::Result<()> {
    let there = Lane { from: client, to: peer, pipes, counters, carried: &counters.sent, activity };
    let back = Lane { from: peer, to: client, pipes, counters, carried: &counters.received, activity };
    tokio::try_join!(there.run(), back.run()).map(drop)
}

impl Lane<'_> {
    async fn run(self) -> io::Result<()> {
        let mut bulk = false;
        let mut turn = 0;
        loop {
            let (bytes, left) = match self.from.when_readable(|from| self.step(from, bulk)).await? {
                Step::End => {
                    if let Err(error) = self.to.end() {
                        tracing::debug!("the end could not be passed on: {error}");
                    }
                    return Ok(());
                }
                Step::Passed(bytes) => (bytes, Ok(())),
                Step::Held(bytes, held) => (bytes, self.flush(held).await),
                Step::Unwanted(error) => (0, Err(error)),
            };
            if let Err(error) = left {
                tracing::debug!("one direction ends: {error}");
                self.counters.error("write", &error);
                return Ok(());
            }
            bulk = bytes >= BULK_BYTES;
            turn += 1;
            if turn == TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Reads once, and writes what was read as far as it is taken at once.
    fn step(&self, from: BorrowedFd<'_>, bulk: bool) -> Result<Step, Errno> {
        if bulk && let Some(mut pipe) = self.pipes.lend() {
            match pipe.fill(from) {
                Ok(0) => {
                    self.pipes.give_back(pipe);
                    return Ok(Step::End);
                }
                Ok(bytes) => return Ok(self.piped(pipe, bytes)),
                Err(error) if not_served(error) => self.pipes.refuse(error),
                Err(error) => {
                    self.pipes.give_back(pipe);
                    return Err(error);
                }
            }
        }
        BUFFER.with_borrow_mut(|buffer| {
            let (read, _) = recv(from, &mut buffer[..], RecvFlags::empty())?;
            Ok(match read {
                0 => Step::End,
                read => self.pass(&buffer[..read]),
            })
        })
    }

    fn pass(&self, bytes: &[u8]) -> Step {
        match send(self.to, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.moved(sent);
                if sent == bytes.len() {
                    Step::Passed(sent)
                } else {
                    Step::Held(bytes.len(), Held::Copied(bytes[sent..].to_vec()))
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => Step::Held(bytes.len(), Held::Copied(bytes.to_vec())),
            Err(error) => Step::Unwanted(error.into()),
        }
    }

    fn piped(&self, mut pipe: Pipe, bytes: usize) -> Step {
        match self.drain(&mut pipe, self.to.as_fd()) {
            Ok(()) => {
                self.pipes.give_back(pipe);
                Step::Passed(bytes)
            }
            Err(Errno::AGAIN | Errno::INTR) => Step::Held(bytes, Held::Piped(pipe)),
            Err(error) if not_served(error) => {
                self.pipes.refuse(error);
                match pipe.empty() {
                    Ok(rest) => Step::Held(bytes, Held::Copied(rest)),
                    Err(error) => Step::Unwanted(error.into()),
                }
            }
            Err(error) => Step::Unwanted(error.into()),
        }
    }

    fn drain(&self, pipe: &mut Pipe, to: BorrowedFd<'_>) -> Result<(), Errno> {
        while !pipe.is_empty() {
            self.moved(pipe.drain(to)?);
        }
        Ok(())
    }

    /// Waits until what is under way has left.
    async fn flush(&self, held: Held) -> io::Result<()> {
        match held {
            Held::Copied(bytes) => {
                let mut left = &bytes[..];
                while !left.is_empty() {
                    let sent = self.to.when_writable(|to| send(to, left, SendFlags::NOSIGNAL)).await?;
                    self.moved(sent);
                    left = &left[sent..];
                }
            }
            Held::Piped(mut pipe) => {
                self.to.when_writable(|to| self.drain(&mut pipe, to)).await?;
                self.pipes.give_back(pipe);
            }
        }
        Ok(())
    }

    fn moved(&self, bytes: usize) {
        self.carried.fetch_add(bytes as u64, Ordering::Relaxed);
        self.activity.now();
    }
}

/// Whether the system says that it has no splice(2), or none for such sockets.
fn not_served(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;

    /// A client and a peer, and what is copied between them with these pipes.
    fn copied(pipes: &'static Pipes) -> (UnixStream, UnixStream, tokio::task::JoinHandle<io::Result<()>>) {
        let (client, client_side) = UnixStream::pair().unwrap();
        let (peer, peer_side) = UnixStream::pair().unwrap();
        let [client_side, peer_side] =
            [client_side, peer_side].map(|side| Socket::new(side.into_std().unwrap().into()).unwrap());
        let copying = tokio::spawn(async move {
            copy(&client_side, &peer_side, pipes, &Counters::default(), &Activity::begin()).await
        });
        (client, peer, copying)
    }

    fn pipes() -> &'static Pipes {
        Box::leak(Box::default())
    }

    /// Sends so much, in such pieces, and holds what comes against it.
    async fn send(pipes: &'static Pipes, pieces: usize, size: usize) {
        let (mut client, mut peer, copying) = copied(pipes);
        for number in 0..pieces {
            let piece = vec![u8::try_from(number % 251).unwrap(); size];
            let mut came = vec![0; size];
            // Read in small pieces, so that there is often room for a part only of what was read.
            let reading = async {
                for part in came.chunks_mut(777) {
                    peer.read_exact(part).await.unwrap();
                }
            };
            let both = async { tokio::join!(client.write_all(&piece), reading) };
            let (sent, ()) =
                tokio::time::timeout(Duration::from_secs(20), both).await.expect("bytes are missing");
            sent.unwrap();
            assert!(came == piece, "piece {number} differs");
        }
        drop((client, peer));
        copying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn bulk_goes_through_a_pipe_that_is_given_back_and_small_messages_need_none() {
        let pipes = pipes();
        send(pipes, 100, 1_000).await;
        assert_eq!(pipes.waiting(), 0);
        send(pipes, 16, 1 << 20).await;
        let waiting = pipes.waiting();
        assert!((1..=2).contains(&waiting), "{waiting} pipes were given back");
    }

    #[tokio::test]
    async fn bulk_goes_through_where_the_system_has_no_pipes_for_it() {
        let pipes = pipes();
        pipes.refuse(Errno::INVAL);
        send(pipes, 16, 1 << 20).await;
        assert_eq!(pipes.waiting(), 0);
    }

    #[tokio::test]
    async fn an_answer_outlives_a_request_that_nobody_reads() {
        let (mut client, mut peer, copying) = copied(pipes());
        peer.write_all(b"413").await.unwrap();
        drop(peer);
        // Whether this is taken depends on who is first.
        let _ = client.write_all(b"a request that is too long").await;
        let mut answer = [0; 3];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"413");
        drop(client);
        tokio::time::timeout(Duration::from_secs(20), copying)
            .await
            .expect("the copying goes on")
            .unwrap()
            .unwrap();
    }
}
