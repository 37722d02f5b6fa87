//! A model over raw TCP that says exactly what a test wants, when it wants, and keeps what it was asked.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

/// A part of an answer.
#[derive(Clone)]
pub(crate) enum Piece {
    /// Bytes.
    Say(Vec<u8>),
    /// Waits until the test adds a permit.
    Wait(Arc<Semaphore>),
    /// Never goes on.
    Hang,
}

impl Piece {
    pub(crate) fn say(text: impl Into<String>) -> Self {
        Self::Say(text.into().into_bytes())
    }

    /// The head of a stream whose body ends with the connection.
    pub(crate) fn stream() -> Self {
        Self::say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    }

    /// The head of a stream that is cut when the connection ends before its length is reached.
    pub(crate) fn stream_that_will_be_cut() -> Self {
        Self::say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n")
    }

    /// A whole answer.
    pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::say(format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }
}

/// The model; each request gets the same answer.
pub(crate) struct RawModel {
    pub(crate) url: String,
    /// Requests as they came: head and body.
    pub(crate) asked: mpsc::UnboundedReceiver<(String, Vec<u8>)>,
    /// How many requests came.
    pub(crate) count: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl Drop for RawModel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawModel {
    pub(crate) async fn start(answer: Vec<Piece>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, asked) = mpsc::unbounded_channel();
        let count = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&count);
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, answer.clone(), tell.clone(), Arc::clone(&counted)));
            }
        });
        Self { url, asked, count, task }
    }
}

async fn serve(
    mut connection: TcpStream,
    answer: Vec<Piece>,
    tell: mpsc::UnboundedSender<(String, Vec<u8>)>,
    count: Arc<Mutex<usize>>,
) {
    let Some(request) = read_request(&mut connection).await else { return };
    *count.lock().unwrap() += 1;
    let _ = tell.send(request);
    for piece in answer {
        match piece {
            Piece::Say(bytes) => {
                if connection.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Piece::Wait(permit) => permit.acquire().await.unwrap().forget(),
            Piece::Hang => std::future::pending().await,
        }
    }
    let _ = connection.shutdown().await;
}

/// A request's head and body; nothing where its client goes before.
pub(crate) async fn read_request(connection: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut got = Vec::new();
    loop {
        if let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(got[..end].to_vec()).unwrap();
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            let mut body = got.split_off(end + 4);
            while body.len() < length {
                connection.read_buf(&mut body).await.ok().filter(|&n| n > 0)?;
            }
            return Some((head, body));
        }
        connection.read_buf(&mut got).await.ok().filter(|&n| n > 0)?;
    }
}
