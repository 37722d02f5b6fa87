//! Bodies that come compressed: requests, and answers although nobody asked for that.

use std::{pin::Pin, sync::Arc};

use async_compression::{
    Level,
    tokio::write::{BrotliEncoder, GzipEncoder, ZlibEncoder},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, simplex},
    sync::Semaphore,
};

use crate::house::{Gateway, House, Piece, RawModel, question, soon};

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1000,\"output_tokens\":1}}}\n\n";
const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":100}}\n\n";

/// A stream's head, its beginning as far as it was flushed, and its end.
async fn stream(encoding: &str) -> [Vec<u8>; 3] {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: {encoding}\r\nconnection: close\r\n\r\n"
    );
    let [start, end] = packed(encoding, [START, END].map(str::as_bytes)).await;
    [head.into_bytes(), start, end]
}

/// Two parts with a flush between them.
async fn packed(encoding: &str, [start, end]: [&[u8]; 2]) -> [Vec<u8>; 2] {
    let (mut out, pipe) = simplex(1024 * 1024);
    let mut encoder: Pin<Box<dyn AsyncWrite + Send>> = match encoding {
        "gzip" => Box::pin(GzipEncoder::new(pipe)),
        "deflate" => Box::pin(ZlibEncoder::new(pipe)),
        "br" => Box::pin(BrotliEncoder::with_quality(pipe, Level::Fastest)),
        unknown => panic!("{unknown}"),
    };
    encoder.write_all(start).await.unwrap();
    encoder.flush().await.unwrap();
    let mut packed = [Vec::with_capacity(1024 * 1024), Vec::new()];
    out.read_buf(&mut packed[0]).await.unwrap();
    encoder.write_all(end).await.unwrap();
    encoder.shutdown().await.unwrap();
    out.read_to_end(&mut packed[1]).await.unwrap();
    packed
}

#[tokio::test]
async fn a_stream_that_comes_compressed_is_passed_on_plain_as_it_comes_and_is_metered() {
    for encoding in ["gzip", "deflate", "br"] {
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
    // Stopped by the limit of what it becomes.
    let bomb = packed("gzip", [&vec![b' '; 40 * 1024 * 1024], &[]]).await.concat();
    assert!(bomb.len() < 100_000);
    let mut refused =
        vec![("zstd", plain.clone(), 415), ("gzip, br", plain.clone(), 415), ("gzip", bomb, 413)];
    for encoding in ["gzip", "deflate", "br"] {
        let sent = packed(encoding, [&plain, &[]]).await.concat();
        refused.push((encoding, sent[..sent.len() / 2].to_vec(), 400));
        assert_eq!(send(&gateway, &key, encoding, sent).await.0, 200, "{encoding}");
        let (head, body) = soon(model.asked.recv()).await.unwrap();
        assert!(!head.to_ascii_lowercase().contains("content-encoding"), "{head}");
        assert_eq!(body, plain, "{encoding}");
    }
    for (encoding, body, status) in refused {
        let (got, text) = send(&gateway, &key, encoding, body).await;
        assert_eq!(got, status, "{encoding}: {text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["type"], "error");
    }
    assert_eq!(*model.count.lock().unwrap(), 3);
}
