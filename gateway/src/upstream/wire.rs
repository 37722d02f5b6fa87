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

/// Connections that nobody uses, by the base URL, the longest idle first.
type Idle = HashMap<String, Vec<(Instant, Box<Wire>)>>;

/// The connections to all upstreams, HTTP/1.1.
#[derive(Debug)]
pub struct Wires {
    connector: Connector,
    idle: Mutex<Idle>,
}

impl Wires {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { connector: Connector::new(), idle: Mutex::default() })
    }

    /// Others that connect in the same way.
    #[must_use]
    pub fn apart(&self) -> Arc<Self> {
        Arc::new(Self { connector: self.connector.clone(), idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
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
            self.let_go(IDLE);
        }
    }

    /// Drops what nobody has used for this long.
    fn let_go(&self, idle: Duration) {
        for wires in self.idle().values_mut() {
            wires.retain(|(since, _)| since.elapsed() < idle);
            wires.shrink_to_fit();
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::mpsc,
    };

    use super::*;
    use crate::provider::Provider;

    /// A server that counts its connections. After so many requests it closes one when it is told to.
    async fn server(requests: usize) -> (Arc<Upstream>, Arc<AtomicUsize>, mpsc::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let (count, (close, mut told)) = (Arc::<AtomicUsize>::default(), mpsc::channel(1));
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let serving = tokio::spawn(async move {
                    for _ in 0..requests {
                        let mut head = Vec::new();
                        while !head.ends_with(b"\r\n\r\n") {
                            head.push(connection.read_u8().await.unwrap());
                        }
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
                        connection.write_all(answer).await.unwrap();
                    }
                    connection
                });
                if requests != usize::MAX {
                    let connection = serving.await.unwrap();
                    told.recv().await.unwrap();
                    drop(connection);
                }
            }
        });
        let to = Upstream { provider: Provider::OpenAi, base_url, credential: None, key_name: String::new() };
        (Arc::new(to), count, close)
    }

    async fn ask(wires: &Arc<Wires>, to: &Arc<Upstream>) -> Bytes {
        let request = to.request(http::Method::GET, "/", &http::HeaderMap::new(), Bytes::new()).unwrap();
        wires.ask(to, request).await.unwrap().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_connection_is_used_again() {
        let (to, count, _told) = server(usize::MAX).await;
        let wires = Wires::new();
        for _ in 0..5 {
            assert_eq!(ask(&wires, &to).await, "hello");
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        // Two at once need two.
        let request = || to.request(http::Method::GET, "/", &http::HeaderMap::new(), Bytes::new()).unwrap();
        let (one, other) = tokio::try_join!(wires.ask(&to, request()), wires.ask(&to, request())).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
        // What is not read to its end is not kept.
        drop(one);
        other.collect().await.unwrap();
        assert_eq!(wires.idle()[&to.base_url].len(), 1);
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_not() {
        let (to, count, close) = server(1).await;
        let wires = Wires::new();
        for round in 1..=3 {
            assert_eq!(ask(&wires, &to).await, "hello");
            assert_eq!(count.load(Ordering::SeqCst), round);
            assert_eq!(wires.idle()[&to.base_url].len(), 1);
            close.send(()).await.unwrap();
            close.reserve().await.unwrap();
            // Lets the runtime hear of it from the system.
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_idle_for_long_is_let_go() {
        let (to, _count, _told) = server(usize::MAX).await;
        let wires = Wires::new();
        ask(&wires, &to).await;
        wires.let_go(IDLE);
        assert_eq!(wires.idle()[&to.base_url].len(), 1);
        wires.let_go(Duration::ZERO);
        assert_eq!(wires.idle()[&to.base_url].len(), 0);
    }
}
