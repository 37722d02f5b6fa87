//! beanstalkd with a flush after every write (`-f 0`). It knows no start: its cycle has three steps, not four.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
};

use e2e::Process;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
};

use super::{BODY_BYTES, installed, new_folder};
use crate::load::Client;

/// The running server.
pub(crate) struct Beanstalkd {
    _process: Process,
    address: SocketAddr,
}

impl Beanstalkd {
    /// Starts it, where it is installed.
    pub(crate) async fn start(inside: &Path) -> Option<Self> {
        let program = installed(&["beanstalkd"])?;
        let folder = new_folder(inside, "beanstalkd");
        // It takes no port 0, and its version 1.12 no unix socket: a port that was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port");
        let mut command = Command::new(program);
        command.args(["-f", "0", "-l", "127.0.0.1", "-p", &address.port().to_string(), "-b"]).arg(&folder);
        let process = Process::start("beanstalkd", &mut command);
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(super::LOOK_AGAIN).await;
        }
        Some(Self { _process: process, address })
    }

    /// A client, connected.
    pub(crate) async fn client(&self) -> Jobs {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket takes its options");
        let put = [format!("put 0 0 600 {BODY_BYTES}\r\n").as_bytes(), &[b'x'; BODY_BYTES], b"\r\n"].concat();
        Jobs { stream: BufStream::new(stream), put, line: String::new() }
    }
}

/// A client of the text protocol (`doc/protocol.txt` of beanstalkd).
pub(crate) struct Jobs {
    stream: BufStream<TcpStream>,
    put: Vec<u8>,
    line: String,
}

impl Jobs {
    async fn ask(&mut self, request: &[u8], good: &str) {
        self.stream.write_all(request).await.expect("it takes requests");
        self.stream.flush().await.expect("it takes requests");
        self.line.clear();
        self.stream.read_line(&mut self.line).await.expect("it answers");
        assert!(self.line.starts_with(good), "beanstalkd said {:?}, not {good}", self.line);
    }
}

impl Client for Jobs {
    async fn cycle(&mut self) {
        let put = std::mem::take(&mut self.put);
        self.ask(&put, "INSERTED").await;
        self.put = put;
        self.ask(b"reserve\r\n", "RESERVED").await;
        let id = self.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut body = [0; BODY_BYTES + 2];
        self.stream.read_exact(&mut body).await.expect("the body comes");
        self.ask(format!("delete {id}\r\n").as_bytes(), "DELETED").await;
    }
}
