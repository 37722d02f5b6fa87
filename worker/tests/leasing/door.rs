//! A coordinator of one task, as far as its worker can tell: it speaks the protocol, keeps the lease's time, and tells
//! the test all that it is asked. The test says which of its answers never come.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path as Segment, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use protocol::{
    Code, EventBody, Problem, Secret,
    event::{EventsStored, NewEvents},
    lease::{Assignment, Beat, Heartbeat, Lease, Leased, Order, OrderKind, Release, Started},
    report::{Accepted, Report},
    task::TaskState,
};
use tokio::{
    net::UnixListener,
    sync::{Notify, mpsc},
    time::{Instant, timeout},
};

use crate::place::PATIENCE;

/// What happened at the door.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Happened {
    /// A worker waits for a task.
    Waiting,
    Leased,
    StartAsked,
    BaseAsked,
    Started,
    Released(String),
    /// A heartbeat came, with this `after`.
    Beat(u64),
    /// A heartbeat came when the lease was over.
    BeatRefused,
    Artifact(String),
    /// A result came; whether it was taken.
    Result(Box<Report>, bool),
    /// The lease is over: from here on another worker may have the task.
    GivenAway,
}

/// What the door does not come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    /// A start is heard, and not acted on.
    Start,
    /// A start is acted on, and not answered.
    Started,
    /// A heartbeat neither renews the lease nor is answered.
    Heartbeat,
    /// An artifact is not answered.
    Artifact,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Ready,
    Leased,
    Running { until: Instant },
    Over,
}

struct Inner {
    task: Assignment,
    /// A bundle, and how often it is cut before it comes whole.
    base: (Vec<u8>, usize),
    lease_s: u64,
    stand: Stand,
    silent: BTreeSet<Verb>,
    orders: Vec<Order>,
    events: Vec<EventBody>,
}

/// The door, for its test.
pub(crate) struct Door {
    shared: Arc<Shared>,
    happened: mpsc::UnboundedReceiver<Happened>,
}

struct Shared {
    inner: Mutex<Inner>,
    changed: Notify,
    tell: mpsc::UnboundedSender<Happened>,
}

impl Door {
    /// Opens it, with a task that nobody has, whose lease lives for so long after each heartbeat.
    pub(crate) fn open(doors: &Path, task: Assignment, lease_s: u64) -> Self {
        let (tell, happened) = mpsc::unbounded_channel();
        let (silent, orders, events) = (BTreeSet::new(), Vec::new(), Vec::new());
        let no_base = (Vec::new(), 0);
        let inner = Inner { task, base: no_base, lease_s, stand: Stand::Ready, silent, orders, events };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), changed: Notify::new(), tell });
        let routes = Router::new()
            .route("/tasks/lease/{queue}", get(lease))
            .route("/tasks/{id}/start", post(start))
            .route("/tasks/{id}/base", get(base))
            .route("/tasks/{id}/release", post(release))
            .route("/tasks/{id}/heartbeat", post(heartbeat))
            .route("/tasks/{id}/events", post(events_of))
            .route("/tasks/{id}/artifacts/{name}", put(artifact))
            .route("/tasks/{id}/result", post(result))
            .with_state(shared.clone());
        let listener = UnixListener::bind(doors.join("coordinator.sock")).unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        tokio::spawn(give_away(shared.clone()));
        Self { shared, happened }
    }

    /// The same with a task that comes only with [`Door::bring`].
    pub(crate) fn without_task(doors: &Path, task: Assignment) -> Self {
        let door = Self::open(doors, task, 45);
        door.shared.lock().stand = Stand::Over;
        door
    }

    /// From now on it does not come to this.
    pub(crate) fn silence(&self, verb: Verb) {
        self.shared.lock().silent.insert(verb);
    }

    /// From now on it does, for what came before too.
    pub(crate) fn speak(&self, verb: Verb) {
        self.shared.lock().silent.remove(&verb);
        self.shared.changed.notify_waiters();
    }

    /// Gives this out as the base's bundle, after cutting it so often in the middle.
    pub(crate) fn give_base(&self, bundle: Vec<u8>, cuts: usize) {
        self.shared.lock().base = (bundle, cuts);
    }

    /// Gives an order to whoever has the task.
    pub(crate) fn order(&self, kind: OrderKind) {
        let orders = &mut self.shared.lock().orders;
        let seq = orders.len() as u64 + 1;
        orders.push(Order { seq, kind });
        self.shared.changed.notify_waiters();
    }

    pub(crate) fn tell(&self, text: &str) {
        self.order(OrderKind::Message { text: text.to_owned() });
    }

    /// Events that are stored.
    pub(crate) fn events(&self) -> Vec<EventBody> {
        self.shared.lock().events.clone()
    }

    /// Waits for what happens, from the last on that was waited for.
    pub(crate) async fn until<T>(&mut self, found: impl Fn(&Happened) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let waiting = async {
            loop {
                let happened = self.happened.recv().await.unwrap();
                if let Some(found) = found(&happened) {
                    return found;
                }
                seen.push(happened);
            }
        };
        let found = timeout(PATIENCE, waiting).await;
        found.unwrap_or_else(|_| panic!("it did not happen; what did: {seen:#?}"))
    }

    pub(crate) async fn until_it_is(&mut self, wanted: &Happened) {
        self.until(|happened| (happened == wanted).then_some(())).await;
    }

    /// The report, and whether it was taken.
    pub(crate) async fn report(&mut self) -> (Report, bool) {
        let report = |happened: &Happened| match happened {
            Happened::Result(report, taken) => Some(((**report).clone(), *taken)),
            _ => None,
        };
        self.until(report).await
    }

    /// All that happened and was not waited for.
    pub(crate) fn rest(&mut self) -> Vec<Happened> {
        std::iter::from_fn(|| self.happened.try_recv().ok()).collect()
    }
}

/// Why a lease was given back.
pub(crate) fn released(happened: &Happened) -> Option<String> {
    match happened {
        Happened::Released(reason) => Some(reason.clone()),
        _ => None,
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn say(&self, happened: Happened) {
        let _ = self.tell.send(happened);
    }

    /// Ends when this verb is to be answered.
    async fn answers(&self, verb: Verb) {
        loop {
            let changed = self.changed.notified();
            if !self.lock().silent.contains(&verb) {
                return;
            }
            changed.await;
        }
    }

    /// Whether the lease stands, renewed where it is asked for.
    fn stands(&self, renew: bool) -> bool {
        let mut inner = self.lock();
        match inner.stand {
            Stand::Running { until } if until > Instant::now() => {
                if renew {
                    inner.stand = Stand::Running { until: lives(inner.lease_s) };
                }
                true
            }
            _ => false,
        }
    }
}

fn lives(lease_s: u64) -> Instant {
    Instant::now() + Duration::from_secs(lease_s)
}

/// The reaper.
async fn give_away(shared: Arc<Shared>) {
    loop {
        let changed = shared.changed.notified();
        let stand = shared.lock().stand;
        match stand {
            Stand::Running { until } if until <= Instant::now() => {
                shared.lock().stand = Stand::Over;
                shared.say(Happened::GivenAway);
            }
            Stand::Running { until } => tokio::time::sleep_until(until).await,
            _ => changed.await,
        }
    }
}

type Answer = Result<Response, Refused>;
struct Refused(Code);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status()).unwrap();
        (status, Json(Problem::new(self.0, "at the test's door"))).into_response()
    }
}

fn json(answer: impl serde::Serialize) -> Answer {
    Ok(Json(answer).into_response())
}

async fn lease(State(shared): State<Arc<Shared>>) -> Answer {
    let leased = {
        let mut inner = shared.lock();
        (inner.stand == Stand::Ready).then(|| {
            inner.stand = Stand::Leased;
            let (token, expires_at) = (Secret::new("lease"), jiff::Timestamp::now());
            let lease = Lease { token, attempt: 1, expires_at, heartbeat_s: 1, lease_s: inner.lease_s };
            Leased { task: inner.task.clone(), lease }
        })
    };
    let Some(leased) = leased else {
        shared.say(Happened::Waiting);
        return std::future::pending().await;
    };
    shared.say(Happened::Leased);
    json(leased)
}

async fn start(State(shared): State<Arc<Shared>>) -> Answer {
    shared.say(Happened::StartAsked);
    shared.answers(Verb::Start).await;
    {
        let mut inner = shared.lock();
        if inner.stand != Stand::Leased {
            return Err(Refused(Code::LeaseLost));
        }
        inner.stand = Stand::Running { until: lives(inner.lease_s) };
    }
    shared.changed.notify_waiters();
    shared.say(Happened::Started);
    shared.answers(Verb::Started).await;
    let virtual_key = Some(Secret::new("sk-cw-test"));
    json(Started { expires_at: jiff::Timestamp::now(), virtual_key, budget_usd: None, provider_paths: false })
}

async fn base(State(shared): State<Arc<Shared>>) -> Answer {
    if !shared.stands(false) {
        return Err(Refused(Code::LeaseLost));
    }
    shared.say(Happened::BaseAsked);
    let mut inner = shared.lock();
    let (bundle, cuts) = &mut inner.base;
    if bundle.is_empty() {
        return Err(Refused(Code::BaseMissing));
    }
    let length = [("content-length", bundle.len().to_string())];
    if *cuts == 0 {
        return Ok((length, bundle.clone()).into_response());
    }
    *cuts -= 1;
    let half = bundle[..bundle.len() / 2].to_vec();
    let cut = [Ok(half), Err(std::io::Error::other("the connection is cut here"))];
    let body = axum::body::Body::from_stream(futures_util::stream::iter(cut));
    Ok((length, body).into_response())
}

async fn release(State(shared): State<Arc<Shared>>, Json(release): Json<Release>) -> Answer {
    let mut inner = shared.lock();
    match inner.stand {
        Stand::Leased => inner.stand = Stand::Over,
        Stand::Running { .. } => return Err(Refused(Code::WrongState)),
        _ => return Err(Refused(Code::LeaseLost)),
    }
    shared.say(Happened::Released(release.reason));
    json(serde_json::json!({}))
}

async fn heartbeat(State(shared): State<Arc<Shared>>, Json(beat): Json<Heartbeat>) -> Answer {
    shared.answers(Verb::Heartbeat).await;
    if !shared.stands(true) {
        shared.say(Happened::BeatRefused);
        return Err(Refused(Code::LeaseLost));
    }
    shared.say(Happened::Beat(beat.after));
    let orders_after =
        || shared.lock().orders.iter().filter(|order| order.seq > beat.after).cloned().collect::<Vec<_>>();
    let changed = shared.changed.notified();
    if orders_after().is_empty() {
        let _ = timeout(Duration::from_secs(1), changed).await;
    }
    shared.answers(Verb::Heartbeat).await;
    json(Beat { expires_at: jiff::Timestamp::now(), orders: orders_after() })
}

async fn events_of(State(shared): State<Arc<Shared>>, Json(new): Json<NewEvents>) -> Answer {
    if !shared.stands(false) {
        return Err(Refused(Code::LeaseLost));
    }
    let mut inner = shared.lock();
    let known = inner.events.len().saturating_sub(usize::try_from(new.first).unwrap());
    inner.events.extend(new.events.into_iter().skip(known).map(|event| event.body));
    json(EventsStored { stored: inner.events.len() as u64 })
}

async fn artifact(
    State(shared): State<Arc<Shared>>,
    Segment((_, name)): Segment<(String, String)>,
    _body: axum::body::Bytes,
) -> Answer {
    if !shared.stands(false) {
        return Err(Refused(Code::LeaseLost));
    }
    shared.say(Happened::Artifact(name));
    shared.answers(Verb::Artifact).await;
    Ok(StatusCode::CREATED.into_response())
}

async fn result(State(shared): State<Arc<Shared>>, Json(report): Json<Report>) -> Answer {
    let taken = shared.stands(false);
    if taken {
        shared.lock().stand = Stand::Over;
    }
    shared.say(Happened::Result(Box::new(report), taken));
    if taken { json(Accepted { state: TaskState::Succeeded }) } else { Err(Refused(Code::LeaseLost)) }
}
