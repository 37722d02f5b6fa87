//! A coordinator of the test's own: real folders, real SQLite, real sockets; and clients for its doors.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use coordinator::{
    CannotRun, Clock, Config, Held, Listeners,
    output::Outputs,
    queue::{Incoming, Queue, Registered},
    run,
    tokens::Tokens,
};
use futures_util::StreamExt as _;
use protocol::{
    Event, EventBody, NewEvent, QueueName, Secret, Task, TaskId, TaskState, Usd, WorkerId,
    client::{ClientError, Endpoint, LeasedClient, OwnerClient, WorkerClient},
    event::NewEvents,
    folders::Folders,
    inside::HeldLease,
    lease::{LeaseQuery, Leased},
    repo::Repo,
    report::{Outcome, Report},
    settings::Sources,
    submit::{Kind, NewTask},
    worker::NewWorker,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The owner's key.
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";
/// A commit that the mirror of `q` and of `other` is known to have, so that no git is needed.
pub(crate) const COMMIT: &str = "1111111111111111111111111111111111111111";
/// Around every wait: a test that hangs fails instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn queue(name: &str) -> QueueName {
    name.parse().unwrap()
}

pub(crate) fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

/// Within [`PATIENCE`].
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

pub(crate) fn folders(base: &Path) -> Folders {
    let text = |name: &str| base.join(name).display().to_string();
    let environment: BTreeMap<String, String> = [
        ("XDG_CONFIG_HOME".to_owned(), text("c")),
        ("XDG_DATA_HOME".to_owned(), text("d")),
        ("XDG_RUNTIME_DIR".to_owned(), text("r")),
    ]
    .into();
    Folders::from_env(&environment).unwrap()
}

/// An open queue without doors.
pub(crate) fn open_queue(folders: &Folders) -> Arc<Queue> {
    std::fs::create_dir_all(folders.output()).unwrap();
    let tokens = Tokens::open(&folders.data.join("coordinator.secret")).unwrap();
    let outputs = Outputs::new(folders.output());
    Queue::open(&folders.coordinator_db(), tokens, outputs, Arc::default(), 0, Clock::start()).unwrap().0
}

/// Registers `q` and `other`, and lets both mirrors be known to have [`COMMIT`].
pub(crate) async fn seed(queues: &Queue) {
    let clock = Clock::start();
    for name in ["q", "other"] {
        let repo = Repo { name: queue(name), source: format!("/{name}"), created_at: clock.now() };
        queues.add_repo(Registered { source: repo.source.clone(), repo }).await.unwrap();
        let seed = format!("seed-{name}");
        let task = NewTask { base: Some("main".to_owned()), id: Some(seed.clone()), ..exec(name) };
        submit(queues, vec![task]).await;
        queues.pin(id(&seed), COMMIT.to_owned(), clock.now()).await.unwrap();
        queues.cancel(&id(&seed), protocol::task::Cancel::default(), clock.now()).await.unwrap();
    }
}

pub(crate) async fn submit(queues: &Queue, tasks: Vec<NewTask>) {
    let incoming = tasks.into_iter().map(|task| {
        let sent = serde_json::to_vec(&task).unwrap();
        Incoming::new(task.check().unwrap(), &sent)
    });
    queues.submit(incoming.collect(), Usd::ZERO, Clock::start().now()).await.unwrap();
}

/// An `exec` task that is ready at once.
pub(crate) fn exec(queue: &str) -> NewTask {
    NewTask {
        queue: queue.to_owned(),
        kind: Kind::Exec,
        argv: Some(vec!["true".to_owned()]),
        base: Some(COMMIT.to_owned()),
        ..NewTask::default()
    }
}

pub(crate) fn named(name: &str) -> NewTask {
    NewTask { id: Some(name.to_owned()), ..exec("q") }
}

pub(crate) fn agent(name: &str) -> NewTask {
    NewTask {
        id: Some(name.to_owned()),
        queue: "q".to_owned(),
        prompt: Some("do".to_owned()),
        base: Some(COMMIT.to_owned()),
        ..NewTask::default()
    }
}

pub(crate) fn report(outcome: Outcome) -> Report {
    Report { exit_code: Some(0), message: Some("done".to_owned()), ..Report::new(outcome) }
}

pub(crate) fn output(text: &str) -> NewEvent {
    let body = EventBody::Output { stream: "stdout".to_owned(), text: text.to_owned() };
    NewEvent { at: jiff::Timestamp::UNIX_EPOCH, body, raw: None }
}

pub(crate) fn batch(first: u64, texts: &[&str]) -> NewEvents {
    NewEvents { first, events: texts.iter().map(|text| output(text)).collect() }
}

/// A running coordinator.
pub(crate) struct House {
    pub(crate) folders: Folders,
    pub(crate) address: SocketAddr,
    pub(crate) owner: OwnerClient,
    stop: CancellationToken,
    running: Option<JoinHandle<Result<(), CannotRun>>>,
    setting: Option<(String, String)>,
    file: Option<String>,
    base: tempfile::TempDir,
}

impl House {
    /// With `q` and `other`, which need no git.
    pub(crate) async fn open() -> Self {
        let house = Self::bare();
        let queues = open_queue(&house.folders);
        seed(&queues).await;
        queues.close();
        house.begin().await
    }

    /// The same, with one more setting.
    pub(crate) async fn open_with(name: &str, value: &str) -> Self {
        let mut house = Self::bare();
        house.setting = Some((name.to_owned(), value.to_owned()));
        let queues = open_queue(&house.folders);
        seed(&queues).await;
        queues.close();
        house.begin().await
    }

    /// The same, with a configuration file too.
    pub(crate) async fn open_configured(file: String, name: &str, value: &str) -> Self {
        let mut house = Self::bare();
        house.file = Some(file);
        house.setting = Some((name.to_owned(), value.to_owned()));
        let queues = open_queue(&house.folders);
        seed(&queues).await;
        queues.close();
        house.begin().await
    }

    /// With nothing registered.
    pub(crate) async fn empty() -> Self {
        Self::bare().begin().await
    }

    /// With these repositories, whose sources are not looked at.
    pub(crate) async fn empty_with(repos: &[(&str, &str)]) -> Self {
        let house = Self::bare();
        let queues = open_queue(&house.folders);
        for (name, source) in repos {
            let repo =
                Repo { name: queue(name), source: (*source).to_owned(), created_at: Clock::start().now() };
            queues.add_repo(Registered { source: repo.source.clone(), repo }).await.unwrap();
        }
        queues.close();
        house.begin().await
    }

    fn bare() -> Self {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        let endpoint = Endpoint::Unix(folders.owner_socket());
        Self {
            owner: OwnerClient::new(endpoint, Secret::new(KEY)).unwrap(),
            address: ([127, 0, 0, 1], 0).into(),
            stop: CancellationToken::new(),
            running: None,
            setting: None,
            file: None,
            folders,
            base,
        }
    }

    async fn begin(mut self) -> Self {
        let environment = [
            ("FORTRESS_API_KEY".to_owned(), KEY.to_owned()),
            ("COORDINATOR_BIND".to_owned(), "127.0.0.1:0".to_owned()),
        ];
        let environment = environment.into_iter().chain(self.setting.clone()).collect();
        let file = self.file.clone().map(|text| ("config.toml".into(), text));
        let sources = Sources { environment, file, ..Sources::default() };
        let config = Config::parse(sources, self.folders.clone()).unwrap();
        let held = Held::take(self.folders.clone()).unwrap();
        let listeners = Listeners::bind(&held, config.bind).await.unwrap();
        self.address = listeners.owner_tcp.local_addr().unwrap();
        self.stop = CancellationToken::new();
        self.running = Some(tokio::spawn(run(held, listeners, config, self.stop.clone())));
        self
    }

    /// Stops it, as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            soon(running).await.unwrap().unwrap();
        }
    }

    /// Stops it and starts another on the same folders.
    pub(crate) async fn restart(mut self) -> Self {
        self.stop().await;
        self.begin().await
    }

    pub(crate) fn base(&self) -> &Path {
        self.base.path()
    }

    /// An HTTP client for anything that the protocol's client would not send.
    pub(crate) fn http(&self) -> reqwest::Client {
        reqwest::Client::builder().no_proxy().build().unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// An HTTP client for the worker's door.
    /// A client of the worker's door that names the protocol's version, as every worker does.
    pub(crate) fn door(&self) -> reqwest::Client {
        let version = protocol::limits::PROTOCOL_VERSION.into();
        let named = [(reqwest::header::HeaderName::from_static(protocol::headers::PROTOCOL), version)];
        self.door_of_strangers().default_headers(named.into_iter().collect()).build().unwrap()
    }

    /// The same before it names anything.
    pub(crate) fn door_of_strangers(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder().no_proxy().unix_socket(self.folders.worker_socket())
    }

    pub(crate) async fn submit(&self, task: NewTask) -> Task {
        self.owner.submit(&task, Duration::ZERO).await.unwrap()
    }

    pub(crate) async fn task(&self, name: &str) -> Task {
        self.owner.task(&id(name), Duration::ZERO).await.unwrap()
    }

    /// The lease of a task's first attempt.
    pub(crate) async fn first_claim(&self, name: &str) -> coordinator::tokens::Claim {
        let made = self.task(name).await.created_at.as_millisecond().cast_unsigned();
        coordinator::tokens::Claim { attempt: 1, serial: made + 1 }
    }

    pub(crate) async fn state(&self, name: &str) -> TaskState {
        self.task(name).await.state
    }

    pub(crate) async fn worker(&self, queue_name: &str) -> Worker {
        let new = NewWorker { queue: queue(queue_name), name: "test".to_owned() };
        let registered = self.owner.register_worker(&new).await.unwrap();
        let endpoint = Endpoint::Unix(self.folders.worker_socket());
        let client = WorkerClient::new(endpoint, registered.token.clone()).unwrap();
        Worker { id: registered.worker_id, token: registered.token, client, queue: queue(queue_name) }
    }

    /// A started task of this name, and its worker.
    pub(crate) async fn started(&self, name: &str) -> (Worker, LeasedClient) {
        self.submit(named(name)).await;
        let worker = self.worker("q").await;
        let leased = worker.lease().await.unwrap();
        assert_eq!(leased.task.id.as_str(), name);
        let client = worker.with(&leased);
        client.start().await.unwrap();
        (worker, client)
    }

    /// All events of a task that has ended, or the first `count`.
    pub(crate) async fn events(&self, name: &str, after: u64, count: usize) -> Vec<Event> {
        let stream = self.owner.events(&id(name), after, true).await.unwrap();
        let events = soon(stream.take(count).collect::<Vec<_>>()).await;
        events.into_iter().map(Result::unwrap).collect()
    }
}

/// A registered worker.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) token: Secret,
    pub(crate) client: WorkerClient,
    pub(crate) queue: QueueName,
}

impl Worker {
    /// Asks once.
    pub(crate) async fn lease(&self) -> Option<Leased> {
        self.lease_by(Uuid::new_v4(), 0).await.unwrap()
    }

    pub(crate) async fn lease_by(&self, request_id: Uuid, wait: u64) -> Result<Option<Leased>, ClientError> {
        soon(self.client.lease(&self.queue, &LeaseQuery { request_id, wait })).await
    }

    pub(crate) fn with(&self, leased: &Leased) -> LeasedClient {
        self.client.with_lease(held(leased))
    }
}

pub(crate) fn held(leased: &Leased) -> HeldLease {
    HeldLease {
        task: leased.task.id.clone(),
        token: leased.lease.token.clone(),
        attempt: leased.lease.attempt,
    }
}

/// The code of a refusal.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> protocol::Code {
    result.unwrap_err().code().expect("a problem document")
}

/// When this has come true. There is no event to wait for where another program changes a file.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    soon(async {
        while !done() {
            ticks.tick().await;
        }
    })
    .await;
}
