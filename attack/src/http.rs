//! Requests, byte for byte as they are given: an honest client would not send most of them.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// The most of an answer that is read.
const MOST: usize = 1 << 20;
/// How long a second answer may take to begin.
const ANOTHER: Duration = Duration::from_millis(150);

/// All that came back until the connection was closed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers(pub(crate) String);

impl Answers {
    /// The status of each answer, in their order.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let rest = |part: &str| part.get(..3).and_then(|code| code.parse().ok());
        self.0.split("HTTP/1.1 ").skip(1).filter_map(rest).collect()
    }

    /// The last answer's body.
    pub(crate) fn body(&self) -> &str {
        self.0.rsplit_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// Whether any was 2xx.
    pub(crate) fn any_good(&self) -> bool {
        self.statuses().iter().any(|status| (200..300).contains(status))
    }
}

/// A request whose connection ends with its answer.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    format!("{}{body}", request_head(method, path, headers, body.len()))
}

/// The head of one whose body has so many bytes.
pub(crate) fn request_head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
    )
}

/// A connection that can be told how long to wait.
trait Stream: Read + Write {
    fn wait_at_most(&self, time: Duration) -> io::Result<()>;
}

impl Stream for UnixStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time)).and_then(|()| self.set_write_timeout(Some(time)))
    }
}

impl Stream for TcpStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time)).and_then(|()| self.set_write_timeout(Some(time)))
    }
}

/// Sends bytes through a unix socket, and reads what comes.
pub(crate) fn ask_unix(socket: &Path, bytes: &[u8]) -> io::Result<Answers> {
    exchange(UnixStream::connect(socket)?, bytes)
}

/// The same through TCP.
pub(crate) fn ask_tcp(to: SocketAddr, bytes: &[u8]) -> io::Result<Answers> {
    exchange(TcpStream::connect(to)?, bytes)
}

fn exchange(mut stream: impl Stream, bytes: &[u8]) -> io::Result<Answers> {
    stream.wait_at_most(PATIENCE)?;
    // A server that has heard enough closes before all is sent; what it said counts.
    let sent = stream.write_all(bytes);
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    let read = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(length) => text.extend(buffer.iter().take(length)),
            Err(error) => break Err(error),
        }
        if text.len() > MOST {
            break Ok(());
        }
        if is_whole(&text) {
            // There may be another, which nobody should have asked for.
            stream.wait_at_most(ANOTHER)?;
        }
    };
    match (text.is_empty(), sent, read) {
        (true, Err(error), _) | (true, _, Err(error)) => Err(error),
        _ => Ok(Answers(String::from_utf8_lossy(&text).into_owned())),
    }
}

/// Whether the last answer has come to the end that its head names.
fn is_whole(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let Some((_, last)) = text.rsplit_once("HTTP/1.1 ") else { return false };
    let Some((head, body)) = last.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    length.is_none_or(|length: usize| body.len() >= length) && !head.to_ascii_lowercase().contains("chunked")
}
