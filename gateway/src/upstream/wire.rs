//! Connections to upstreams, kept from one request to the next. Who asks on one polls it: no task and no thread has to
//! be woken between the two.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, Connection, SendRequest},
    },
};
use tokio::time::Instant;

use super::{
    Upstream,
    connect::{BoxError, Connector, Io},
};

/// An idle connection is dropped before the far end does it, which would race with a request.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read at once. Answers mostly trickle; with many open a large buffer for each is what the
/// memory goes to.
const READ_BYTES: usize = 2 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// Nothing was sent.
    Unsent(BoxError),
    /// The request may have arrived.
    Broken(hyper::Error),
}

impl Failure {
    /// What lies at the bottom of it.
    #[must_use]
    pub fn cause(&self) -> &(dyn std::error::Error + 'static) {
        let mut why: &(dyn std::error::Error + 'static) = match self {
            Self::Unsent(error) => error.as_ref(),
            Self::Broken(error) => error,
        };
        while let Some(source) = why.source() {
            why = source;
        }
        why
    }
}

/// The connections to all upstreams, HTTP/1.1.
#[derive(Debug)]
pub struct Wires {
    connector: Connector,
    /// Those that nobody uses, by the base URL, the longest idle first.
    idle: Mutex<HashMap<String, Vec<(Instant, Box<Wire>)>>>,
}

impl Wires {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { connector: Connector::new(), idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<String, Vec<(Instant, Box<Wire>)>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, to: &Upstream) -> Option<Box<Wire>> {
        let (since, wire) = self.idle().get_mut(&to.base_url)?.pop()?;
        // The others have been idle for longer: they are dropped soon.
        (since.elapsed() < IDLE).then_some(wire)
    }

    fn put(&self, to: &Upstream, wire: Box<Wire>) {
        let mut idle = self.idle();
        let now = Instant::now();
        match idle.get_mut(&to.base_url) {
            Some(wires) => wires.push((now, wire)),
            None => drop(idle.insert(to.base_url.clone(), vec![(now, wire)])),
        }
    }

    /// Drops what has been idle for too long, again and again.
    pub async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(IDLE / 2).await;
            for wires in self.idle().values_mut() {
                wires.retain(|(since, _)| since.elapsed() < IDLE);
                wires.shrink_to_fit();
            }
        }
    }

    /// Sends a request, and returns the head of its answer. A kept connection that turns out to be closed before
    /// anything went out is let go.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask(
        self: &Arc<Self>,
        to: &Arc<Upstream>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Answer>, Failure> {
        while let Some(wire) = self.take(to) {
            match wire.ask(request).await {
                Ok(answered) => return Ok(self.answer(to, answered)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::Broken(error.into_error())),
                },
            }
        }
        let wire = self.connect(to).await.map_err(Failure::Unsent)?;
        match wire.ask(request).await {
            Ok(answered) => Ok(self.answer(to, answered)),
            Err(mut error) => Err(match error.take_message() {
                Some(_) => Failure::Unsent(error.into_error().into()),
                None => Failure::Broken(error.into_error()),
            }),
        }
    }

    async fn connect(&self, to: &Upstream) -> Result<Box<Wire>, BoxError> {
        let io = self.connector.connect(to.base_url.parse()?).await?;
        let (sender, connection) = Builder::new().read_buf_exact_size(Some(READ_BYTES)).handshake(io).await?;
        Ok(Box::new(Wire { sender, connection: Some(connection) }))
    }

    fn answer(
        self: &Arc<Self>,
        from: &Arc<Upstream>,
        (answer, wire): (Response<Incoming>, Box<Wire>),
    ) -> Response<Answer> {
        let back = (Arc::clone(self), Arc::clone(from));
        answer.map(|body| Answer { body, wire: Some(wire), back })
    }
}

/// One connection.
struct Wire {
    sender: SendRequest<Full<Bytes>>,
    /// None once it has ended.
    connection: Option<Connection<Io, Full<Bytes>>>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Wire {
    /// Reads and writes what can be read and written now.
    fn poll(&mut self, context: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else { return };
        if let Poll::Ready(ended) = Pin::new(connection).poll(context) {
            if let Err(error) = ended {
                tracing::debug!("a connection to an upstream ended: {error}");
            }
            // Whoever waits for it hears of it with this.
            self.connection = None;
        }
    }

    async fn ask(
        mut self: Box<Self>,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Box<Self>), TrySendError<Request<Full<Bytes>>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let answered = std::future::poll_fn(|context| {
            self.poll(context);
            answer.as_mut().poll(&mut nobody())
        })
        .await?;
        Ok((answered, self))
    }
}

/// Nobody is to be woken by what a connection says to the one who polls it: that one looks right after.
fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// An answer's body. Read to its end, it gives its connection back.
#[derive(Debug)]
pub struct Answer {
    body: Incoming,
    wire: Option<Box<Wire>>,
    back: (Arc<Wires>, Arc<Upstream>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.body).poll_frame(&mut nobody());
        if polled.is_pending()
            && let Some(wire) = &mut this.wire
        {
            wire.poll(context);
            polled = Pin::new(&mut this.body).poll_frame(&mut nobody());
        }
        if matches!(polled, Poll::Ready(None))
            && let Some(mut wire) = this.wire.take()
        {
            if !wire.sender.is_ready() {
                wire.poll(context);
            }
            if wire.sender.is_ready() {
                this.back.0.put(&this.back.1, wire);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        // Its reader is to come to the end, where the connection is given back.
        self.wire.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
