//! Bodies that come compressed: requests, and answers although nobody asked for that.

use std::sync::Arc;

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, sync::Semaphore};

use crate::house::{Gateway, House, Piece, RawModel, question, soon};

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1000,\"output_tokens\":1}}}\n\n";
const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":100}}\n\n";

/// A stream's head, its beginning as far as it was flushed, and its end.
async fn stream(encoding: &str) -> [Vec<u8>; 3] {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: {encoding}\r\nconnection: close\r\n\r\n"
    );
    let (start, whole) = if encoding == "br" {
        let mut encoder = BrotliEncoder::new(Vec::new());
        encoder.write_all(START.as_bytes()).await.unwrap();
        encoder.flush().await.unwrap();
        let start = encoder.get_ref().clone();
        encoder.write_all(END.as_bytes()).await.unwrap();
        encoder.shutdown().await.unwrap();
        (start, encoder.into_inner())
    } else {
        let mut encoder = GzipEncoder::new(Vec::new());
        encoder.write_all(START.as_bytes()).await.unwrap();
        encoder.flush().await.unwrap();
        let start = encoder.get_ref().clone();
        encoder.write_all(END.as_bytes()).await.unwrap();
        encoder.shutdown().await.unwrap();
        (start, encoder.into_inner())
    };
    let end = whole[start.len()..].to_vec();
    [head.into_bytes(), start, end]
}

async fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(body).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

#[tokio::test]
async fn a_stream_that_comes_compressed_is_passed_on_plain_as_it_comes_and_is_metered() {
    for encoding in ["gzip", "br"] {
        let permit = Arc::new(Semaphore::new(0));
        let [head, start, end] = stream(encoding).await;
        let pieces = vec![Piece::Say(head), Piece::Say(start), Piece::Wait(permit.clone()), Piece::Say(end)];
        let model = RawModel::start(pieces).await;
        let house = House::before(&model.url);
        let gateway = house.open().await;
        let key = gateway.mint("t", "1.00").await;
        let mut answer = gateway.ask(&key, 500, true).await;
        assert!(!answer.headers().contains_key("content-encoding"), "{encoding}");
        let mut got = Vec::new();
        while got.len() < START.len() {
            got.extend_from_slice(&soon(answer.chunk()).await.unwrap().unwrap());
        }
        assert_eq!(got, START.as_bytes(), "{encoding}");
        permit.add_permits(1);
        assert_eq!(soon(answer.bytes()).await.unwrap(), END.as_bytes(), "{encoding}");
        assert_eq!(gateway.spent("t").await, "0.0015", "{encoding}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_here_can_read_is_refused_and_charged_by_its_bound() {
    let answer = Piece::answer("200 OK", "content-encoding: zstd\r\n", "(zstd)");
    let model = RawModel::start(vec![answer]).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    let answer = gateway.ask(&key, 500, false).await;
    assert_eq!(answer.status(), 502);
    assert!(answer.text().await.unwrap().contains("encoding"));
    let spent: protocol::Usd = gateway.settled(&key).await.parse().unwrap();
    assert!(spent > "0.0025".parse().unwrap(), "{spent}");
}

async fn send(gateway: &Gateway, key: &str, encoding: &str, body: Vec<u8>) -> (u16, String) {
    let request = gateway.client.post("http://gateway/v1/messages").header("x-api-key", key);
    let request = request.header("content-encoding", encoding).body(body);
    let answer = soon(request.send()).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_request_that_comes_compressed_is_read_and_sent_on_plain() {
    let mut model = RawModel::start(vec![Piece::answer("200 OK", "", "{}")]).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "5.00").await;
    let plain = serde_json::to_vec(&question(500, false)).unwrap();
    let packed = gzip(&plain).await;
    assert_eq!(send(&gateway, &key, "gzip", packed.clone()).await.0, 200);
    let (head, body) = soon(model.asked.recv()).await.unwrap();
    assert!(!head.to_ascii_lowercase().contains("content-encoding"), "{head}");
    assert_eq!(body, plain);

    // A bomb is stopped by the limit of what it becomes; what is broken or unknown is refused.
    let bomb = gzip(&vec![b' '; 40 * 1024 * 1024]).await;
    assert!(bomb.len() < 100_000);
    let broken = packed[..packed.len() / 2].to_vec();
    for (encoding, body, status) in
        [("gzip", bomb, 413), ("gzip", broken, 400), ("zstd", plain.clone(), 415), ("gzip, br", plain, 415)]
    {
        let (got, text) = send(&gateway, &key, encoding, body).await;
        assert_eq!(got, status, "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["type"], "error");
    }
    assert_eq!(*model.count.lock().unwrap(), 1);
}
