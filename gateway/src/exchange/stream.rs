//! An answer that streams: passed on as it comes, its usage read aside. Nothing is read ahead of a slow client.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{AnswerError, Answered, metered::Metered, outlive::go_on, scrub::Scrubber};
use crate::Gateway;

/// The body that a client reads. Dropped before its end, it is read on without the client.
pub(super) struct Stream(Option<Box<Rest>>);

/// What of a stream has not come yet.
struct Rest {
    gateway: Arc<Gateway>,
    upstream: Answered,
    metered: Metered,
    scrubber: Scrubber,
    held_back: Option<Box<HeldBack>>,
    _under_way: TaskTrackerToken,
}

/// What costs more than is covered on disk is passed on when it is.
struct HeldBack {
    flushed: Pin<Box<dyn Future<Output = Result<(), String>> + Send>>,
    read: Read,
}

impl Stream {
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        upstream: Answered,
        metered: Metered,
        scrubber: Scrubber,
        under_way: TaskTrackerToken,
    ) -> Self {
        let gateway = Arc::clone(gateway);
        Self(Some(Box::new(Rest {
            gateway,
            upstream,
            metered,
            scrubber,
            held_back: None,
            _under_way: under_way,
        })))
    }
}

/// What a frame was.
enum Read {
    /// To be passed on; perhaps nothing.
    Part(Bytes),
    /// To be passed on, and the last.
    Last(Bytes),
    /// The stream broke off.
    Broken(io::Error),
}

impl Rest {
    fn read(&mut self, frame: Option<Result<Frame<Bytes>, AnswerError>>) -> Read {
        match frame {
            Some(Ok(frame)) => {
                let chunk = frame.into_data().unwrap_or_default();
                let (pass, passed_budget) = self.metered.read(&chunk);
                let pass = self.scrubber.pass(pass);
                match passed_budget {
                    true => Read::Last([pass, self.scrubber.end()].concat().into()),
                    false => Read::Part(pass),
                }
            }
            Some(Err(error)) => {
                tracing::warn!("a stream was cut: {error}");
                self.metered.settle();
                Read::Broken(io::Error::other(error))
            }
            None => {
                let last = self.metered.end();
                Read::Last([self.scrubber.pass(last), self.scrubber.end()].concat().into())
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Read> {
        if self.held_back.is_none() {
            let frame = ready!(Pin::new(&mut self.upstream).poll_frame(context));
            let read = self.read(frame);
            let Some(unflushed) = self.metered.take_unflushed() else { return Poll::Ready(read) };
            let flushed = Box::pin(Arc::clone(&self.gateway.ledger).flushed(unflushed));
            self.held_back = Some(Box::new(HeldBack { flushed, read }));
        }
        let flushed = match &mut self.held_back {
            Some(held) => ready!(held.flushed.as_mut().poll(context)),
            None => Ok(()),
        };
        let read = self.held_back.take().map_or(Read::Part(Bytes::new()), |held| held.read);
        Poll::Ready(match flushed {
            Ok(()) => read,
            Err(why) => Read::Broken(io::Error::other(why)),
        })
    }

    /// To the end, for nobody but the ledger.
    async fn drain(mut self: Box<Self>) {
        if self.held_back.as_ref().is_some_and(|held| !matches!(held.read, Read::Part(_))) {
            return;
        }
        loop {
            let frame = self.upstream.frame().await;
            match self.read(frame) {
                Read::Part(_) => {}
                Read::Last(_) | Read::Broken(_) => return,
            }
        }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            let Some(rest) = &mut self.0 else { return Poll::Ready(None) };
            let pass = match ready!(rest.poll(context)) {
                Read::Part(pass) if pass.is_empty() => continue,
                Read::Part(pass) => pass,
                Read::Last(last) => {
                    self.0 = None;
                    if last.is_empty() {
                        return Poll::Ready(None);
                    }
                    last
                }
                // The client must see a cut, not an end.
                Read::Broken(error) => {
                    self.0 = None;
                    return Poll::Ready(Some(Err(error)));
                }
            };
            return Poll::Ready(Some(Ok(Frame::data(pass))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(rest) = self.0.take() {
            let gateway = Arc::clone(&rest.gateway);
            go_on(&gateway, rest.drain());
        }
    }
}
