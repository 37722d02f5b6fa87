//! A network that loses, delays, doubles, reorders and breaks what passes between workers and the coordinator.
//!
//! It takes the place of a socket: a listening unix socket goes on under its new name, so whoever dials the old
//! name comes here, and what is to pass goes on to the new one.

mod plan;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, body::Incoming, client::conn, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Runtime,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

pub use plan::{Plan, Trouble, Verb};

/// How late something is that is late.
const DELAY: Duration = Duration::from_millis(300);
/// How long a request is held back for another one to come first.
const HELD_BACK: Duration = Duration::from_secs(3);
/// How long a wait goes on before it is broken.
const BROKEN_AFTER: Duration = Duration::from_millis(100);
/// Between the first half of a body and its break, so that the half arrives.
const HALF: Duration = Duration::from_millis(20);
/// How long an occasion may take to come, once all else is done.
const OCCASION: Duration = Duration::from_secs(30);
/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a repeated request may take that waits for nothing.
const ANSWERED_AGAIN: Duration = Duration::from_secs(5);
/// A copy comes at most so many requests later.
const LATEST_COPY: u64 = 8;

/// The network. Everything passes again when this is dropped, or nothing: the old name is gone then.
pub struct Unruly {
    inner: Arc<Inner>,
    runtime: Runtime,
}

struct Inner {
    /// Where the server listens.
    behind: PathBuf,
    plan: Mutex<Plan>,
    /// No request of this verb arrives.
    closed_to: Mutex<Option<Verb>>,
    /// What was asked, and for which path, whether it arrived or not.
    asked: watch::Sender<Vec<(Verb, String)>>,
    done: watch::Sender<BTreeMap<(Verb, Trouble), u32>>,
    passed: Mutex<Vec<Passed>>,
    /// How many have passed.
    count: watch::Sender<u64>,
    /// Copies that are to come when so many have passed.
    later: Mutex<Vec<(u64, Asked)>>,
}

/// A request that arrived, with its answer.
#[derive(Debug, Clone)]
pub struct Passed {
    /// What it was about.
    pub verb: Verb,
    asked: Asked,
    /// The status of its answer.
    pub status: StatusCode,
    /// The body of its answer.
    pub answer: Bytes,
}

impl Passed {
    /// Its path and query.
    #[must_use]
    pub fn path(&self) -> String {
        self.asked.head.uri.to_string()
    }

    /// One of its headers; empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.asked.head.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[derive(Debug, Clone)]
struct Asked {
    verb: Option<Verb>,
    head: Parts,
    body: Bytes,
}

type Body = BoxBody<Bytes, io::Error>;

impl Unruly {
    /// Takes the place of a listening socket.
    #[must_use]
    pub fn at(socket: &Path, plan: Plan) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let behind = socket.with_extension("behind");
        fs::rename(socket, &behind).unwrap();
        let inner = Arc::new(Inner {
            behind,
            plan: Mutex::new(plan),
            closed_to: Mutex::default(),
            asked: watch::Sender::default(),
            done: watch::Sender::default(),
            passed: Mutex::default(),
            count: watch::Sender::new(0),
            later: Mutex::default(),
        });
        let guard = runtime.enter();
        let listener = UnixListener::bind(socket).unwrap();
        drop(guard);
        runtime.spawn(listen(listener, inner.clone()));
        Self { inner, runtime }
    }

    /// How often each trouble has happened to each verb.
    #[must_use]
    pub fn done(&self) -> BTreeMap<(Verb, Trouble), u32> {
        self.inner.done.borrow().clone()
    }

    /// Waits until all has happened that was to happen at least once.
    pub fn wait_until_done(&self) {
        let wanted = locked(&self.inner.plan).wanted().to_vec();
        let mut done = self.inner.done.subscribe();
        let all = done.wait_for(|done| wanted.iter().all(|one| done.contains_key(one)));
        let all = self.runtime.block_on(async { timeout(OCCASION, all).await.is_ok() });
        let done = self.done();
        let left: Vec<_> = wanted.iter().filter(|one| !done.contains_key(one)).collect();
        assert!(all, "there was no occasion for {left:?}");
    }

    /// All that arrived, in the order of the answers.
    #[must_use]
    pub fn passed(&self) -> Vec<Passed> {
        locked(&self.inner.passed).clone()
    }

    /// From now on loses all requests of this verb, or of none.
    pub fn close_to(&self, verb: Option<Verb>) {
        *locked(&self.inner.closed_to) = verb;
    }

    /// Waits until somebody has asked this, whether it arrived or not.
    pub fn wait_for(&self, verb: Verb, path: &str) {
        let mut asked = self.inner.asked.subscribe();
        let found = asked.wait_for(|asked| asked.iter().any(|(v, p)| *v == verb && p.contains(path)));
        self.runtime.block_on(async { timeout(PATIENCE, found).await.unwrap().unwrap() });
    }

    /// Lets everything that has arrived arrive once more, in another order; what is not answered soon is waiting
    /// for something, and is broken. The answers, each after the one that was given before.
    #[must_use]
    pub fn repeat_all(&self) -> Vec<(Passed, Passed)> {
        let mut before = self.passed();
        locked(&self.inner.plan).shuffle(&mut before);
        let again = before.into_iter().map(async |before| {
            let answer = timeout(ANSWERED_AGAIN, self.inner.ask(&before.asked)).await;
            let answer = answer.ok()?.unwrap();
            let after = Passed { status: answer.status(), answer: answer.into_body(), ..before.clone() };
            Some((before, after))
        });
        let again = stream::iter(again).buffer_unordered(16).filter_map(std::future::ready);
        self.runtime.block_on(again.collect())
    }
}

impl Drop for Unruly {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the network did: {:#?}", self.done());
        }
    }
}

async fn listen(listener: UnixListener, inner: Arc<Inner>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let inner = inner.clone();
        let serve = service_fn(move |request| inner.clone().serve(request));
        // An error is a connection that was broken, by us or by whoever dialled.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
    }
}

/// The connection ends here, without an answer.
fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Inner {
    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let asked = Asked { verb: Verb::of(&head.method, head.uri.path()), head, body };
        if let Some(verb) = asked.verb {
            self.asked.send_modify(|all| all.push((verb, asked.head.uri.to_string())));
            if *locked(&self.closed_to) == Some(verb) {
                return Err(broken());
            }
        }
        let trouble = asked.verb.and_then(|verb| locked(&self.plan).next(verb));
        match (asked.verb, trouble) {
            (Some(verb), Some(trouble)) => self.trouble(asked, verb, trouble).await,
            _ => self.ask(&asked).await.map(whole),
        }
    }

    async fn trouble(
        self: Arc<Self>,
        asked: Asked,
        verb: Verb,
        trouble: Trouble,
    ) -> io::Result<Response<Body>> {
        if trouble.needs_answer() {
            let unless_done = Again { inner: &self, verb, trouble, done: false };
            let answer = self.trouble_answer(&asked, trouble).await;
            unless_done.did();
            return answer;
        }
        match trouble {
            Trouble::CopyLater => {
                let when = *self.count.borrow() + 2 + locked(&self.plan).below(LATEST_COPY);
                locked(&self.later).push((when, asked.clone()));
            }
            Trouble::Overtaken => {
                let mut count = self.count.subscribe();
                match timeout(HELD_BACK, count.changed()).await {
                    Ok(_) => self.did(verb, trouble),
                    Err(_) => self.did_not(verb, trouble),
                }
            }
            Trouble::BreakWait => {
                if let Ok(answer) = timeout(BROKEN_AFTER, self.ask(&asked)).await {
                    self.did_not(verb, trouble);
                    return answer.map(whole);
                }
                self.did(verb, trouble);
                return Err(broken());
            }
            Trouble::TwoAtOnce => {
                self.did(verb, trouble);
                let copy = tokio::spawn(self.clone().copy(asked.clone()));
                return tokio::select! {
                    answer = self.ask(&asked) => answer.map(whole),
                    Ok(answer) = copy => answer.map(whole),
                };
            }
            Trouble::DelayRequest => {
                sleep(DELAY).await;
                self.did(verb, trouble);
            }
            Trouble::BreakRequest => {
                let _ = send(&self.behind, asked.request(halved(&asked.body))).await;
                self.did(verb, trouble);
                return Err(broken());
            }
            _ => {
                self.did(verb, trouble);
                return Err(broken());
            }
        }
        self.ask(&asked).await.map(whole)
    }

    async fn trouble_answer(self: &Arc<Self>, asked: &Asked, trouble: Trouble) -> io::Result<Response<Body>> {
        let answer = self.ask(asked).await?;
        match trouble {
            Trouble::DelayAnswer => {
                sleep(DELAY).await;
                Ok(whole(answer))
            }
            Trouble::FirstOfTwo => self.ask(asked).await.map(|_| whole(answer)),
            Trouble::SecondOfTwo => self.ask(asked).await.map(whole),
            Trouble::BreakAnswer => {
                let (head, body) = answer.into_parts();
                Ok(Response::from_parts(head, halved(&body)))
            }
            _ => Err(broken()),
        }
    }

    fn did(&self, verb: Verb, trouble: Trouble) {
        self.done.send_modify(|done| *done.entry((verb, trouble)).or_default() += 1);
    }

    /// There was no occasion.
    fn did_not(&self, verb: Verb, trouble: Trouble) {
        locked(&self.plan).again(verb, trouble);
    }

    async fn copy(self: Arc<Self>, asked: Asked) -> io::Result<Response<Bytes>> {
        self.ask(&asked).await
    }

    /// Lets it arrive, and brings the answer.
    async fn ask(self: &Arc<Self>, asked: &Asked) -> io::Result<Response<Bytes>> {
        let body = Full::new(asked.body.clone()).map_err(|never| match never {}).boxed();
        let answer = send(&self.behind, asked.request(body)).await?;
        if let Some(verb) = asked.verb {
            locked(&self.passed).push(Passed {
                verb,
                asked: asked.clone(),
                status: answer.status(),
                answer: answer.body().clone(),
            });
            self.count.send_modify(|count| *count += 1);
            self.send_copies();
        }
        Ok(answer)
    }

    fn send_copies(self: &Arc<Self>) {
        let count = *self.count.borrow();
        let due: Vec<_> = locked(&self.later).extract_if(.., |(when, _)| *when <= count).collect();
        for (_, asked) in due {
            if let Some(verb) = asked.verb {
                self.did(verb, Trouble::CopyLater);
            }
            tokio::spawn(self.clone().copy(asked));
        }
    }
}

/// A trouble whose request goes away before its answer is there, as a heartbeat does when its task ends, comes again.
struct Again<'a> {
    inner: &'a Inner,
    verb: Verb,
    trouble: Trouble,
    done: bool,
}

impl Again<'_> {
    fn did(mut self) {
        self.done = true;
        self.inner.did(self.verb, self.trouble);
    }
}

impl Drop for Again<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.inner.did_not(self.verb, self.trouble);
        }
    }
}

impl Asked {
    fn request(&self, body: Body) -> Request<Body> {
        let mut request = Request::from_parts(self.head.clone(), body);
        request.headers_mut().remove(header::CONNECTION);
        request
    }
}

async fn send(socket: &Path, request: Request<Body>) -> io::Result<Response<Bytes>> {
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) = conn::http1::handshake(stream).await.map_err(io::Error::other)?;
    // It ends when this is dropped: whoever asked has gone, and the server is to see it.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let (head, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Response::from_parts(head, body))
}

fn whole(answer: Response<Bytes>) -> Response<Body> {
    answer.map(|body| Full::new(body).map_err(|never| match never {}).boxed())
}

/// Half of it, and then the connection breaks. The header that says its length stays.
fn halved(body: &Bytes) -> Body {
    let half = body.slice(..body.len() / 2);
    let start = stream::once(async move { Ok(Frame::data(half)) });
    let end = stream::once(async {
        sleep(HALF).await;
        Err(broken())
    });
    BoxBody::new(StreamBody::new(start.chain(end)))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
