//! Copying between two connections, each direction with an end of its own.
//!
//! `tokio::io::copy_bidirectional` is not enough: it gives up both directions when a write fails, so a server
//! that answers early and stops reading (an HTTP 413, say) would have its answer thrown away with the
//! request.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The buffer of one direction, in bytes. A waiting connection holds two.
pub const BUFFER_BYTES: usize = 16 << 10;

/// What a connection carried, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// From the client to the dialled peer.
    pub sent: u64,
    /// From the dialled peer to the client.
    pub received: u64,
}

/// Copies until both directions have ended.
///
/// The end of one side is passed on as a half-close and the other direction goes on. A side that takes no more
/// bytes ends the direction towards it only. A side that cannot be read is gone, and ends both.
///
/// # Errors
/// The read error of the side that is gone.
pub async fn copy<C, P>(client: C, peer: P) -> io::Result<Copied>
where
    C: AsyncRead + AsyncWrite,
    P: AsyncRead + AsyncWrite,
{
    let (client_reads, client_writes) = tokio::io::split(client);
    let (peer_reads, peer_writes) = tokio::io::split(peer);
    let (sent, received) =
        tokio::try_join!(one_way(client_reads, peer_writes), one_way(peer_reads, client_writes))?;
    Ok(Copied { sent, received })
}

async fn one_way<R, W>(mut from: R, mut to: W) -> io::Result<u64>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut copied = 0;
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            if let Err(error) = to.shutdown().await {
                tracing::debug!("the end could not be passed on: {error}");
            }
            return Ok(copied);
        }
        if let Err(error) = to.write_all(&buffer[..read]).await {
            tracing::debug!("one direction ends after {copied} bytes: {error}");
            return Ok(copied);
        }
        copied += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn an_answer_outlives_a_request_that_nobody_reads() {
        let (mut client, client_side) = UnixStream::pair().unwrap();
        let (mut peer, peer_side) = UnixStream::pair().unwrap();
        peer.write_all(b"413").await.unwrap();
        drop(peer);
        client.write_all(b"a request that is too long").await.unwrap();

        copy(client_side, peer_side).await.unwrap();
        let mut answer = [0; 3];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"413");
    }

    #[tokio::test]
    async fn a_client_that_is_gone_ends_both_directions() {
        let (client, client_side) = UnixStream::pair().unwrap();
        let (mut peer, peer_side) = UnixStream::pair().unwrap();
        let mut unread = peer_side;
        // Closing a unix socket that holds unread bytes resets the other end.
        unread.write_all(b"-").await.unwrap();
        peer.write_all(b"+").await.unwrap();
        let copying = tokio::spawn(copy(client_side, unread));
        client.readable().await.unwrap();
        drop(client);
        let copied =
            tokio::time::timeout(Duration::from_secs(20), copying).await.expect("the copying goes on");
        assert!(copied.unwrap().is_err());
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"-");
    }
}
