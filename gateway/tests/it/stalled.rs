//! A client that reads nothing is held back by backpressure: its upstream is not read on, and the gateway keeps
//! nothing for it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
};

use crate::house::{Gateway, House, read_request, soon};

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1000,\"output_tokens\":1}}}\n\n";
const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2000}}\n\n";
/// 1,000 tokens in at 1 USD a million, 2,000 out at 5.
const COST: &str = "0.011";
const DELTAS: usize = 1_500;
const DELTA_BYTES: usize = 16 * 1024;
/// The most that an upstream gets rid of for a client that reads nothing: the sockets on both sides, hyper's buffers
/// in the gateway and in the client. The kernel grows a socket's buffer only for who reads.
const STALLED_BYTES: usize = 2 * 1024 * 1024;
/// What the gateway may grow by for one stalled client: hyper's buffers, of at most 400 KB.
const KEPT_KB: usize = 1_024;
const STALLED: usize = 4;

/// The same long stream for every request; how much of each was taken is seen from outside.
struct Source {
    url: String,
    taken: Arc<[AtomicUsize; 64]>,
    body: Arc<Vec<u8>>,
    server: JoinHandle<()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Source {
    async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // What stays with the sender itself says nothing of the gateway.
        socket.set_send_buffer_size(64 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut body = START.as_bytes().to_vec();
        for number in 0..DELTAS {
            let text = format!("{number:08}").repeat(DELTA_BYTES / 8);
            body.extend_from_slice(
                format!("event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"delta\":{{\"text\":\"{text}\"}}}}\n\n")
                    .as_bytes(),
            );
        }
        body.extend_from_slice(END.as_bytes());
        let body = Arc::new(body);
        let taken = Arc::new([const { AtomicUsize::new(0) }; 64]);
        let (sent, counted) = (Arc::clone(&body), Arc::clone(&taken));
        let server = tokio::spawn(async move {
            for number in 0.. {
                let (connection, _) = listener.accept().await.unwrap();
                tokio::spawn(write(connection, Arc::clone(&sent), Arc::clone(&counted), number));
            }
        });
        Self { url, taken, body, server }
    }

    /// Of the stalled: the first request of all is not one.
    fn taken(&self) -> [usize; STALLED] {
        std::array::from_fn(|number| self.taken[number + 1].load(Ordering::SeqCst))
    }
}

async fn write(mut connection: TcpStream, body: Arc<Vec<u8>>, taken: Arc<[AtomicUsize; 64]>, number: usize) {
    read_request(&mut connection).await.unwrap();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut rest = body.as_slice();
    while !rest.is_empty() {
        let Ok(written) = connection.write(&rest[..rest.len().min(64 * 1024)]).await else { return };
        taken[number].fetch_add(written, Ordering::SeqCst);
        rest = &rest[written..];
    }
    let _ = connection.shutdown().await;
}

fn resident_kb(gateway: &Gateway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process.id().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_holds_its_upstream_back_and_nothing_in_memory() {
    let source = Source::start().await;
    let house = House::before(&source.url);
    let gateway = house.open().await;
    let other = gateway.mint("other", "5.00").await;
    let whole = async || soon(gateway.ask(&other, 8_000, true).await.bytes()).await.unwrap();
    assert!(whole().await == *source.body, "it is not what was sent");
    let before = resident_kb(&gateway);
    let key = gateway.mint("stalled", "5.00").await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(gateway.ask(&key, 8_000, true).await);
    }

    // The others go on. When one of them has come whole and none that stalls has moved, they stand for good.
    let mut stands = source.taken();
    loop {
        assert!(whole().await == *source.body, "it is not what was sent");
        let now = source.taken();
        if std::mem::replace(&mut stands, now) == now {
            break;
        }
    }
    for taken in stands {
        assert!((1..STALLED_BYTES).contains(&taken), "{taken} of {} bytes were taken", source.body.len());
    }
    let grown = resident_kb(&gateway).saturating_sub(before);
    assert!(grown < STALLED * KEPT_KB, "{grown} KB more");

    // One goes, and is read on without its client; the others read what they are owed.
    drop(stalled.pop());
    for answer in stalled {
        assert!(soon(answer.bytes()).await.unwrap() == *source.body, "it is not what was sent");
    }
    let each: protocol::Usd = COST.parse().unwrap();
    let wanted = (0..STALLED).fold(protocol::Usd::ZERO, |sum, _| sum.saturating_add(each));
    assert_eq!(gateway.settled(&key).await, wanted.to_string());
}
