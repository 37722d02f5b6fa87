//! The server behind relays: it sends back, or counts, what comes.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

/// The first byte of a connection whose bytes come back.
pub(crate) const ECHO: u8 = b'e';
/// The first byte of a connection whose bytes are counted: 8 bytes say how many come, then [`ACK`] is the answer.
pub(crate) const SINK: u8 = b's';
/// All counted bytes are there.
pub(crate) const ACK: [u8; 1] = *b"!";

/// What is read at once.
const BUFFER: usize = 256 << 10;

/// A connection of either kind.
pub(crate) type Stream = Box<dyn Both>;

/// Reads and writes.
pub(crate) trait Both: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// Where something listens.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    /// On TCP.
    Tcp(SocketAddr),
    /// On a unix socket.
    Unix(PathBuf),
}

impl Door {
    /// A connection on which this byte was sent.
    pub(crate) async fn connect(&self, first: u8) -> Stream {
        let mut stream = self.try_connect().await.expect("it listens");
        stream.write_all(&[first]).await.expect("it takes bytes");
        stream
    }

    /// A connection, if one is to be had.
    pub(crate) async fn try_connect(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }
}

/// The server's doors. It runs in this program, as the clients do: what it costs, it costs in front of every system.
pub(crate) struct FarEnd {
    pub(crate) tcp: Door,
    pub(crate) unix: Door,
}

impl FarEnd {
    /// Listens on both.
    pub(crate) async fn start(inside: &Path) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let path = inside.join("far-end");
        let unix = UnixListener::bind(&path).expect("a new socket");
        let address = tcp.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                stream.set_nodelay(true).expect("a socket takes its options");
                tokio::spawn(serve(stream));
            }
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = unix.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Self { tcp: Door::Tcp(address), unix: Door::Unix(path) }
    }
}

/// Serves until the client ends.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    if stream.read_u8().await? == SINK {
        let mut buffer = vec![0; BUFFER];
        loop {
            let mut left = stream.read_u64().await?;
            while left > 0 {
                let read = stream.read(&mut buffer).await?;
                if read == 0 {
                    return Ok(());
                }
                left = left.saturating_sub(read as u64);
            }
            stream.write_all(&ACK).await?;
        }
    }
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..read]).await?;
    }
}
