//! Where a coordinator lives that is killed again and again: its folders stay.

use std::{
    os::unix::{net::UnixStream, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use coordinator::{
    Clock,
    output::Outputs,
    queue::{Incoming, Queue, Registered, StoreError},
    tokens::Tokens,
};
use protocol::{QueueName, Usd, folders::Folders, repo::Repo, submit::Kind, submit::NewTask, task::Cancel};
use tokio::process::{Child, Command};

use crate::child::{PLAN, Plan, TEST, folders};

/// A commit that the mirrors are known to have, so that no git is needed.
pub(crate) const COMMIT: &str = "1111111111111111111111111111111111111111";
/// The queues.
pub(crate) const QUEUES: [&str; 2] = ["q", "other"];
/// Around every wait: a test that hangs fails instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// When this has come true. There is no event to wait for where another program changes something.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let waiting = async {
        while !done() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it did not come true in time");
}

pub(crate) fn queue(name: &str) -> QueueName {
    name.parse().unwrap()
}

/// An `exec` task that is ready at once.
pub(crate) fn exec(queue: &str, id: String) -> NewTask {
    NewTask {
        id: Some(id),
        queue: queue.to_owned(),
        kind: Kind::Exec,
        argv: Some(vec!["true".to_owned()]),
        base: Some(COMMIT.to_owned()),
        ..NewTask::default()
    }
}

/// The queues in these folders, without doors.
pub(crate) fn open_queue(folders: &Folders) -> Result<Arc<Queue>, StoreError> {
    let secret = folders.data.join("coordinator.secret");
    let tokens = Tokens::open(&secret).map_err(|error| StoreError::Storage(error.to_string()))?;
    let outputs = Outputs::new(folders.output());
    let opened = Queue::open(&folders.coordinator_db(), tokens, outputs, Arc::default(), 0, Clock::start());
    opened.map(|(queue, _)| queue)
}

pub(crate) struct Place {
    pub(crate) folders: Folders,
    base: tempfile::TempDir,
}

impl Place {
    /// With both queues.
    pub(crate) async fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        std::fs::create_dir_all(folders.output()).unwrap();
        let queues = open_queue(&folders).unwrap();
        let clock = Clock::start();
        for name in QUEUES {
            let repo = Repo { name: queue(name), source: format!("/{name}"), created_at: clock.now() };
            queues.add_repo(Registered { source: repo.source.clone(), repo }).await.unwrap();
            // A task that is pinned to it tells the database that the mirror has the commit.
            let seed = NewTask { base: Some("main".to_owned()), ..exec(name, format!("seed-{name}")) };
            let id = seed.id.clone().unwrap().parse().unwrap();
            let incoming = Incoming::new(seed.check().unwrap(), b"seed");
            queues.submit(vec![incoming], Usd::ZERO, clock.now()).await.unwrap();
            queues.pin(id, COMMIT.to_owned(), clock.now()).await.unwrap();
            let id = format!("seed-{name}").parse().unwrap();
            queues.cancel(&id, Cancel::default(), clock.now()).await.unwrap();
        }
        queues.close();
        Self { folders, base }
    }

    pub(crate) fn base(&self) -> &Path {
        self.base.path()
    }

    /// A file beside the coordinator's folders.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.base().join(name)
    }

    /// Starts a coordinator.
    pub(crate) fn start(&self, plan: &Plan) -> Child {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.beside("log")).unwrap();
        let plan = Plan { base: self.base().to_owned(), ..plan.clone() };
        Command::new(std::env::current_exe().unwrap())
            .args([TEST, "--exact", "--ignored", "--nocapture"])
            .env_clear()
            .env(PLAN, serde_json::to_string(&plan).unwrap())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Waits for its doors; how it ended, where it did before.
    pub(crate) async fn open(&self, child: &mut Child) -> Option<ExitStatus> {
        let mut ended = None;
        until(|| {
            ended = child.try_wait().unwrap();
            ended.is_some() || UnixStream::connect(self.folders.worker_socket()).is_ok()
        })
        .await;
        ended
    }

    /// A coordinator that ended was killed: it never goes by itself.
    pub(crate) fn require_killed(&self, status: ExitStatus) {
        if status.signal() != Some(9) {
            let log = std::fs::read_to_string(self.beside("log")).unwrap_or_default();
            panic!("the coordinator ended by itself: {status}\n{log}");
        }
    }
}
