//! Bodies on their way in: how many bytes of them may be in memory at once, and how long one may take.
//!
//! Invariant: bytes are counted before they are kept, and for as long as the request that they belong to may
//! still have them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;

use super::BODY_BYTES;
use crate::{encoding::Encoding, refusal::Refusal};

/// Bytes of bodies that all keys together may have in memory.
const ALL_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of bodies that one key may have in memory: two of the largest.
const KEY_BYTES: usize = 64 * 1024 * 1024;
/// Of a body that is too large, so much is read and let go before the connection is closed on its client.
const DRAINED_BYTES: usize = 4 * BODY_BYTES;
/// How long a body may take to arrive: one of the largest over a slow disk takes a few seconds.
pub(super) const ARRIVAL: Duration = Duration::from_secs(60);

/// What all doors' bodies hold.
#[derive(Debug, Default)]
pub struct Uploads(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    keys: HashMap<Arc<str>, usize>,
}

impl Uploads {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One body's share, given back when it is dropped.
#[derive(Debug)]
pub struct Upload {
    uploads: Arc<Uploads>,
    key: Arc<str>,
    bytes: usize,
}

impl Upload {
    fn new(uploads: &Arc<Uploads>, key: &Arc<str>) -> Self {
        Self { uploads: Arc::clone(uploads), key: Arc::clone(key), bytes: 0 }
    }

    /// Makes the share at least this large, if there is room.
    fn grow(&mut self, to: usize) -> Result<(), Refusal> {
        let more = to.saturating_sub(self.bytes);
        let mut counts = self.uploads.counts();
        let of_key = counts.keys.get(&self.key).copied().unwrap_or(0);
        if counts.all + more > ALL_BYTES || of_key + more > KEY_BYTES {
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_bytes",
                "other requests' bodies fill the room that the gateway has for them: try again soon",
            ));
        }
        counts.all += more;
        counts.keys.insert(Arc::clone(&self.key), of_key + more);
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut counts = self.uploads.counts();
        counts.all = counts.all.saturating_sub(self.bytes);
        if let Some(of_key) = counts.keys.get_mut(&self.key) {
            *of_key = of_key.saturating_sub(self.bytes);
            if *of_key == 0 {
                counts.keys.remove(&self.key);
            }
        }
    }
}

/// Reads a body within `time`, and counts it by its `content-length`, or else as it comes.
pub(super) async fn read(
    uploads: &Arc<Uploads>,
    key: &Arc<str>,
    headers: &HeaderMap,
    body: Body,
    time: Duration,
) -> Result<(Bytes, Upload), Refusal> {
    let encoding = Encoding::of(headers).map_err(|_| {
        let sentence =
            "the body is compressed in a way that is not known here: send it as it is, or as gzip or br";
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_request", sentence)
    })?;
    let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    // The limits are of what it is once taken apart.
    let (body, said) = match encoding {
        Some(encoding) => (Body::from_stream(encoding.decode(body)), None),
        None => (body, said),
    };
    let upload = Upload::new(uploads, key);
    tokio::time::timeout(time, collect(upload, said.unwrap_or(0).min(BODY_BYTES), body)).await.unwrap_or_else(
        |_| {
            let sentence = format!("the body did not arrive within {} s: send it again", time.as_secs());
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "slow_body", sentence))
        },
    )
}

async fn collect(mut upload: Upload, said: usize, mut body: Body) -> Result<(Bytes, Upload), Refusal> {
    let mut room = upload.grow(said);
    let mut read = Vec::with_capacity(if room.is_ok() { said } else { 0 });
    let mut arrived: usize = 0;
    while let Some(frame) = body.frame().await {
        let unreadable =
            |_| Refusal::new(StatusCode::BAD_REQUEST, "bad_request", "the body could not be read");
        let Ok(chunk) = frame.map_err(unreadable)?.into_data() else { continue };
        arrived += chunk.len();
        room = match arrived {
            _ if arrived > DRAINED_BYTES => return Err(too_large()),
            _ if arrived > BODY_BYTES => Err(too_large()),
            _ => room.and_then(|()| upload.grow(arrived)),
        };
        // Without room the rest is read and let go: a client that still sends does not read its answer.
        match room {
            Ok(()) => read.extend_from_slice(&chunk),
            Err(_) => read = Vec::new(),
        }
    }
    room.map(|()| (Bytes::from(read), upload))
}

fn too_large() -> Refusal {
    let sentence = format!("the body is over {BODY_BYTES} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn task(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn neither_one_task_nor_all_hold_more_than_their_room() {
        let uploads = Arc::new(Uploads::default());
        let holding = |name: &str| {
            let mut upload = Upload::new(&uploads, &task(name));
            upload.grow(32 * MIB).map(|()| upload)
        };
        let mut held: Vec<_> = ["a", "a", "b", "b", "c", "c", "d"].map(|name| holding(name).unwrap()).into();
        assert!(holding("a").unwrap_err().message().starts_with("too_many_bytes: "));
        held.push(holding("e").unwrap());
        assert!(holding("f").is_err());
        drop(held);
        assert!(holding("a").is_ok());
        assert!(uploads.counts().keys.is_empty());
    }

    #[tokio::test]
    async fn a_body_is_counted_while_it_is_kept_and_refused_without_room() {
        let uploads = Arc::new(Uploads::default());
        let read = async |length: Option<usize>| {
            let mut headers = HeaderMap::new();
            headers.extend(length.map(|length| (header::CONTENT_LENGTH, length.into())));
            read(&uploads, &task("t"), &headers, Body::from(vec![0; 30 * MIB]), ARRIVAL).await
        };
        let first = read(Some(30 * MIB)).await.unwrap();
        assert_eq!((first.0.len(), uploads.counts().all), (30 * MIB, 30 * MIB));
        let _second = read(None).await.unwrap();
        for length in [Some(30 * MIB), None] {
            assert!(read(length).await.unwrap_err().message().starts_with("too_many_bytes: "));
        }
        drop(first);
        assert!(read(None).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_does_not_arrive_is_dropped() {
        let uploads = Arc::new(Uploads::default());
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, 9.into());
        let late = read(&uploads, &task("t"), &headers, never, Duration::from_millis(1)).await;
        assert!(late.unwrap_err().message().starts_with("slow_body: "));
        assert_eq!(uploads.counts().all, 0);
    }
}
