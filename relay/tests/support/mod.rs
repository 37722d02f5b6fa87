//! A relay in this process, and peers to dial.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::path::Path;
use std::time::Duration;

use relay::{Address, DialAddress, Limits, ListenAddress, Listener, run};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use relay::connection::Connection;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not happen in time")
}

/// A listener on a free address of the family, in `folder` when it is a unix socket.
pub(crate) async fn listener(family: &str, folder: &Path, name: &str) -> Listener {
    let address = match family {
        "tcp" => "tcp://127.0.0.1:0".to_owned(),
        _ => format!("unix://{}/{name}.sock", folder.display()),
    };
    Listener::bind(&address.parse().unwrap(), 0o600).await.unwrap()
}

pub(crate) fn to_dial(address: Address) -> DialAddress {
    address.try_into().unwrap()
}

pub(crate) async fn dial(address: &Address) -> Connection {
    soon(Connection::dial(&to_dial(address.clone()))).await.unwrap()
}

pub(crate) fn unix(folder: &Path, name: &str) -> ListenAddress {
    format!("unix://{}/{name}.sock", folder.display()).parse().unwrap()
}

/// A relay that ends when its test ends.
pub(crate) struct Relay {
    pub(crate) address: Address,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Relay {
    pub(crate) fn start(listener: Listener, dial: Address, limits: Limits) -> Self {
        let address = listener.address().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(listener, to_dial(dial), limits, shutdown.clone()));
        Self { address, shutdown, task }
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
