//! A relay in this process, and peers to dial.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use relay::{Address, Counters, DialAddress, Limits, ListenAddress, Listener, run};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not happen in time")
}

/// A connection of a test's own.
pub(crate) type Connection = Box<dyn Stream>;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The server behind a relay.
pub(crate) enum Behind {
    Tcp(TcpListener),
    Unix(UnixListener, Address),
}

impl Behind {
    /// One of the family, in `folder` when it is a unix socket.
    pub(crate) async fn start(family: &str, folder: &Path) -> Self {
        if family == "tcp" {
            return Self::Tcp(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let path = folder.join("peer.sock");
        let _ = std::fs::remove_file(&path);
        Self::Unix(UnixListener::bind(&path).unwrap(), Address::Unix(path))
    }

    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Tcp(listener) => format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap(),
            Self::Unix(_, address) => address.clone(),
        }
    }

    pub(crate) async fn accept(&self) -> Connection {
        match self {
            Self::Tcp(listener) => Box::new(listener.accept().await.unwrap().0),
            Self::Unix(listener, _) => Box::new(listener.accept().await.unwrap().0),
        }
    }
}

/// A relay's own listener on a free address of the family.
pub(crate) fn front(family: &str, folder: &Path) -> Listener {
    let address = match family {
        "tcp" => "tcp://127.0.0.1:0".parse().unwrap(),
        _ => unix(folder, "front"),
    };
    Listener::bind(&address, 0o600).unwrap()
}

pub(crate) fn unix(folder: &Path, name: &str) -> ListenAddress {
    format!("unix://{}/{name}.sock", folder.display()).parse().unwrap()
}

pub(crate) fn to_dial(address: Address) -> DialAddress {
    address.try_into().unwrap()
}

pub(crate) async fn dial(address: &Address) -> Connection {
    match address {
        Address::Tcp { host, port } => {
            Box::new(soon(TcpStream::connect((host.as_str(), *port))).await.unwrap())
        }
        Address::Unix(path) => Box::new(soon(UnixStream::connect(path)).await.unwrap()),
        Address::Vsock { .. } => unreachable!("no test here dials vsock"),
    }
}

/// A relay that ends when its test ends.
pub(crate) struct Relay {
    pub(crate) address: Address,
    pub(crate) counters: Arc<Counters>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Relay {
    pub(crate) fn start(listener: Listener, dial: Address, limits: Limits) -> Self {
        let address = listener.address().clone();
        let shutdown = CancellationToken::new();
        let counters = Arc::new(Counters::default());
        let running = run(listener, to_dial(dial), limits, Arc::clone(&counters), shutdown.clone());
        Self { address, counters, shutdown, task: tokio::spawn(running) }
    }
}

/// Sends a byte there and back.
pub(crate) async fn round_trip(connection: &mut Connection) {
    soon(connection.write_all(b"x")).await.unwrap();
    let mut answer = [0];
    soon(connection.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"x");
}

/// Sends back what comes, until it ends.
pub(crate) async fn echo(connection: impl AsyncRead + AsyncWrite) {
    let (mut reads, mut writes) = tokio::io::split(connection);
    let _ = tokio::io::copy(&mut reads, &mut writes).await;
    let _ = writes.shutdown().await;
}
