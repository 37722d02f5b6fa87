//! The pieces of an answer on their way to the client: paced, cut, or left hanging.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// One server-sent event, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    bytes: Bytes,
    /// Whether it is a delta: deltas are what pacing waits before, and what "half-way" counts.
    delta: bool,
}

/// What comes after the last piece of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// The proper end.
    End,
    /// The connection is cut.
    Cut,
    /// Nothing, until the client or the server goes.
    Hang,
}

impl Frame {
    /// An event with a name, as Anthropic and OpenAI's Responses send them.
    pub(crate) fn event(name: &str, data: &Value) -> Self {
        Self { bytes: Bytes::from(format!("event: {name}\ndata: {data}\n\n")), delta: false }
    }

    /// An event without a name, as Chat Completions sends them.
    pub(crate) fn data(data: &Value) -> Self {
        Self { bytes: Bytes::from(format!("data: {data}\n\n")), delta: false }
    }

    /// The mark at the end of a Chat Completions stream.
    pub(crate) fn done() -> Self {
        Self { bytes: Bytes::from_static(b"data: [DONE]\n\n"), delta: false }
    }

    /// A part of an answer that is no event.
    pub(crate) fn part(bytes: Bytes) -> Self {
        Self { bytes, delta: false }
    }

    /// The same frame as a delta.
    pub(crate) fn paced(mut self) -> Self {
        self.delta = true;
        self
    }
}

/// What goes over the wire.
#[cfg(test)]
pub(crate) fn text(frames: &[Frame]) -> String {
    frames.iter().map(|frame| String::from_utf8_lossy(&frame.bytes)).collect()
}

/// How many of the frames are deltas.
pub(crate) fn deltas(frames: &[Frame]) -> usize {
    frames.iter().filter(|frame| frame.delta).count()
}

/// Keeps the frames up to and with the middle delta: a client has seen something, and misses something.
pub(crate) fn first_half(mut frames: Vec<Frame>) -> Vec<Frame> {
    let middle = deltas(&frames).div_ceil(2).max(1);
    let last = frames.iter().enumerate().filter(|(_, frame)| frame.delta).nth(middle - 1);
    let keep = last.map_or(1, |(index, _)| index + 1);
    frames.truncate(keep);
    frames
}

/// A body that sends the frames, waiting `delay` before each delta. When `shutdown` comes first it is cut.
pub(crate) fn body(frames: Vec<Frame>, delay: Duration, tail: Tail, shutdown: CancellationToken) -> Body {
    let ending = shutdown.clone();
    let frames = stream::iter(frames).then(move |frame| {
        let shutdown = shutdown.clone();
        async move {
            if frame.delta && !delay.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = shutdown.cancelled() => return Err(cut()),
                }
            }
            Ok(frame.bytes)
        }
    });
    let tail = stream::once(async move {
        match tail {
            Tail::End => return None,
            // The server flushes what it holds when a body has nothing ready, and only then: without this
            // the frames before the cut would be lost.
            Tail::Cut => tokio::task::yield_now().await,
            Tail::Hang => ending.cancelled().await,
        }
        Some(Err(cut()))
    });
    Body::from_stream(frames.chain(tail.filter_map(std::future::ready)))
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the recording cuts the connection here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(delta: bool) -> Frame {
        Frame { bytes: Bytes::new(), delta }
    }

    #[test]
    fn half_is_counted_in_deltas() {
        let kinds =
            |frames: Vec<Frame>| first_half(frames).iter().map(|frame| frame.delta).collect::<Vec<_>>();
        let frames = [false, false, true, true, true, false].map(frame).to_vec();
        assert_eq!(kinds(frames), [false, false, true, true]);
        assert_eq!(kinds([false, true, false].map(frame).to_vec()), [false, true]);
        assert_eq!(kinds([false, false].map(frame).to_vec()), [false]);
    }
}
