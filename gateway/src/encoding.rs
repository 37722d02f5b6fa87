//! Bodies that come compressed, taken apart as they come: what was flushed at the other end is passed on at once.

use std::{io, pin::Pin};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder};
use axum::body::BodyDataStream;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

/// Bytes that are taken out of a decoder at once.
const AT_ONCE: usize = 16 * 1024;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `gzip`
    Gzip,
    /// `deflate`, which is zlib's format
    Deflate,
    /// `br`
    Brotli,
}

/// A `content-encoding` that is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

/// A body that is no longer compressed.
pub type Decoded = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

impl Encoding {
    /// What headers say; `None` for a body as it is.
    ///
    /// # Errors
    /// [`Unknown`], also for several at once.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Unknown> {
        let mut said = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = said.next() else { return Ok(None) };
        let value = value.to_str().map_err(|_| Unknown)?.trim().to_ascii_lowercase();
        match (value.as_str(), said.next()) {
            ("identity" | "", None) => Ok(None),
            ("gzip" | "x-gzip", None) => Ok(Some(Self::Gzip)),
            ("deflate", None) => Ok(Some(Self::Deflate)),
            ("br", None) => Ok(Some(Self::Brotli)),
            _ => Err(Unknown),
        }
    }

    /// Takes a body apart. It ends with an error where it is broken off.
    pub fn decode<B>(self, body: B) -> Decoded
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let body: BodyDataStream = axum::body::Body::new(body.map_err(Into::into)).into_data_stream();
        let reader = StreamReader::new(TryStreamExt::map_err(body, io::Error::other));
        let decoder: Pin<Box<dyn AsyncRead + Send>> = match self {
            Self::Gzip => Box::pin(GzipDecoder::new(reader)),
            Self::Deflate => Box::pin(ZlibDecoder::new(reader)),
            Self::Brotli => Box::pin(BrotliDecoder::new(reader)),
        };
        Box::pin(ReaderStream::with_capacity(decoder, AT_ONCE))
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZlibEncoder};
    use futures_util::StreamExt as _;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use proptest::prelude::{ProptestConfig as Config, any, prop_assert, prop_assert_eq, proptest};
    use tokio::io::{AsyncWrite, AsyncWriteExt as _};

    use super::*;

    const ALL: [(Encoding, &str); 3] =
        [(Encoding::Gzip, "gzip"), (Encoding::Deflate, "deflate"), (Encoding::Brotli, "br")];

    /// What a server sends that flushes after each event, and where its flushes are.
    async fn compressed(encoding: Encoding, events: &[String]) -> (Vec<u8>, Vec<usize>) {
        let sent: std::sync::Arc<std::sync::Mutex<Vec<u8>>> = std::sync::Arc::default();
        let mut encoder: Pin<Box<dyn AsyncWrite>> = {
            let to = Shared(std::sync::Arc::clone(&sent));
            match encoding {
                Encoding::Gzip => Box::pin(GzipEncoder::new(to)),
                Encoding::Deflate => Box::pin(ZlibEncoder::new(to)),
                Encoding::Brotli => Box::pin(BrotliEncoder::new(to)),
            }
        };
        let mut flushes = Vec::new();
        for event in events {
            encoder.write_all(event.as_bytes()).await.unwrap();
            encoder.flush().await.unwrap();
            flushes.push(sent.lock().unwrap().len());
        }
        encoder.shutdown().await.unwrap();
        let sent = sent.lock().unwrap().clone();
        (sent, flushes)
    }

    struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl AsyncWrite for Shared {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            bytes: &[u8],
        ) -> std::task::Poll<io::Result<usize>> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            std::task::Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(
            self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn poll_shutdown(
            self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }

    fn body(chunks: Vec<Bytes>, ends: bool) -> impl Body<Data = Bytes, Error = io::Error> + Send + 'static {
        let sent = futures_util::stream::iter(chunks.into_iter().map(|chunk| Ok(Frame::data(chunk))));
        let rest: Decoded = if ends {
            Box::pin(futures_util::stream::empty())
        } else {
            Box::pin(futures_util::stream::pending())
        };
        StreamBody::new(sent.chain(rest.map(|chunk| chunk.map(Frame::data))))
    }

    #[tokio::test]
    async fn what_was_flushed_is_passed_on_before_more_comes() {
        let events: Vec<String> = (0..5).map(|n| format!("data: {{\"n\":{n}}}\n\n")).collect();
        for (encoding, name) in ALL {
            let (sent, flushes) = compressed(encoding, &events).await;
            for (at, flush) in flushes.iter().enumerate() {
                let mut decoded = encoding.decode(body(vec![Bytes::copy_from_slice(&sent[..*flush])], false));
                let wanted = events[..=at].concat();
                let mut got = Vec::new();
                while got.len() < wanted.len() {
                    got.extend_from_slice(&decoded.next().await.unwrap().unwrap());
                }
                assert_eq!(String::from_utf8(got).unwrap(), wanted, "{name}");
            }
        }
    }

    proptest! {
        #![proptest_config(Config { cases: 24, ..Config::default() })]
        #[test]
        fn where_chunks_break_makes_no_difference(
            texts in proptest::collection::vec(any::<String>(), 1..8),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
            shortened in any::<proptest::sample::Index>(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for (encoding, name) in ALL {
                let (sent, _) = runtime.block_on(compressed(encoding, &texts));
                let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(sent.len() + 1)).collect();
                cuts.extend([0, sent.len()]);
                cuts.sort_unstable();
                let chunks = cuts.windows(2).map(|ends| Bytes::copy_from_slice(&sent[ends[0]..ends[1]])).collect();
                let read = |chunks| runtime.block_on(encoding.decode(body(chunks, true)).collect::<Vec<_>>());
                let whole: Vec<Bytes> = read(chunks).into_iter().map(Result::unwrap).collect();
                prop_assert_eq!(whole.concat(), texts.concat().into_bytes(), "{}", name);
                let short = Bytes::copy_from_slice(&sent[..shortened.index(sent.len())]);
                prop_assert!(short.is_empty() || read(vec![short]).iter().any(Result::is_err), "{} was cut", name);
            }
        }
    }
}
