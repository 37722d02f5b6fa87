//! The coordinator: a real process, reached through its doors.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bytes::Bytes;
use e2e::Process;
use serde_json::{Value, json};

use super::{BODY_BYTES, new_folder};
use crate::{
    api::{Doors, Lease, Owner, Worker, exec_task},
    load::Client,
};

const KEY: &str = "0123456789abcdef0123456789abcdef";
/// The queue of the cycles.
pub(crate) const QUEUE: &str = "cycles";
/// The queue of what is only submitted.
pub(crate) const PILE: &str = "pile";

/// A running coordinator, with two repositories whose commit it knows.
pub(crate) struct Ours {
    /// The process.
    pub(crate) process: Process,
    /// Its doors.
    pub(crate) doors: Doors,
    /// A commit of both repositories: a task on it is ready at once.
    pub(crate) commit: String,
    home: PathBuf,
}

/// One answer of each step, for a server that does nothing else than answer.
pub(crate) struct Answers {
    pub(crate) submit: Bytes,
    pub(crate) bulk: Bytes,
    pub(crate) lease: Bytes,
    pub(crate) start: Bytes,
    pub(crate) result: Bytes,
}

impl Ours {
    /// Starts one in a new folder `name`, and lets it know the commit.
    pub(crate) async fn start(inside: &Path, name: &str) -> Self {
        let home = new_folder(inside, name);
        let commit = repository(&home.join("source"));
        let (process, doors) = run(&home);
        let ours = Self { process, doors, commit, home };
        let mut owner = ours.doors.owner().await;
        for queue in [QUEUE, PILE] {
            let repo = json!({ "name": queue, "source": ours.home.join("source") });
            owner.post("/repos", repo.to_string().into()).await;
            // The first task on a commit is held until git has found it; those after it are ready at once.
            owner.post("/tasks", ours.task(queue).to_string().into()).await;
            let mut worker = ours.doors.worker(queue).await;
            let (lease, _) = worker.lease(50).await.expect("the commit is found");
            worker.finish(&lease).await;
        }
        ours
    }

    /// Ends it, lets `between` see its folder, and starts it again: the time until it answers.
    pub(crate) async fn restart(self, between: impl FnOnce(&Path)) -> (Self, Duration) {
        let Self { process, commit, home, .. } = self;
        drop(process);
        between(&home.join("d/code-workers/coordinator.db"));
        let began = std::time::Instant::now();
        let (process, doors) = run(&home);
        let (status, _) = doors.owner().await.get("/health").await;
        assert!(status.is_success(), "/health was answered {status}");
        let took = began.elapsed();
        (Self { process, doors, commit, home }, took)
    }

    /// A task that is ready at once.
    pub(crate) fn task(&self, queue: &str) -> Value {
        exec_task(queue, &self.commit, BODY_BYTES)
    }

    /// A thousand of them.
    pub(crate) fn thousand(&self) -> Bytes {
        Value::from(vec![self.task(PILE); 1_000]).to_string().into()
    }

    /// Goes through all steps once, and keeps what was answered.
    pub(crate) async fn answers(&self) -> Answers {
        let mut client = Cycle::new(&self.doors, &self.task(QUEUE)).await;
        let submit = client.submit().await;
        let (lease, answer) = client.lease().await;
        let start = client.worker.of_lease(&lease, "start", Bytes::from_static(b"{}")).await;
        let result = client.worker.of_lease(&lease, "result", Bytes::from_static(crate::api::REPORT)).await;
        let bulk = client.owner.post("/tasks", self.thousand()).await;
        Answers { submit, bulk, lease: answer, start, result }
    }

    /// Commits and the operations in them so far.
    pub(crate) async fn commits(&self) -> (f64, f64) {
        let text = self.metrics().await;
        (
            metric(&text, "code_workers_commit_operations_count "),
            metric(&text, "code_workers_operations_total "),
        )
    }

    /// Returns when exactly so many requests wait.
    pub(crate) async fn until_waiting(&self, count: usize) {
        let count = f64::from(u32::try_from(count).expect("fewer"));
        while metric(&self.metrics().await, "code_workers_long_polls_waiting ") != count {
            tokio::time::sleep(super::LOOK_AGAIN).await;
        }
    }

    async fn metrics(&self) -> String {
        let (status, text) = self.doors.owner().await.get("/metrics").await;
        assert!(status.is_success(), "/metrics was answered {status}");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Its resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> f64 {
        let status = format!("/proc/{}/status", self.process.pid());
        metric(&fs::read_to_string(status).expect("it runs").replace(" kB", ""), "VmRSS:")
    }
}

/// The value on the line that begins so.
fn metric(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("there is no {name:?} in {text}"))
}

fn run(home: &Path) -> (Process, Doors) {
    let own = std::env::current_exe().expect("this program has a path");
    let program = own.with_file_name("code-workers-coordinator");
    assert!(program.is_file(), "{} is not built: cargo build --release", program.display());
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join("c"))
        .env("XDG_DATA_HOME", home.join("d"))
        .env("XDG_RUNTIME_DIR", home.join("r"))
        .env("COORDINATOR_BIND", "127.0.0.1:0")
        .env("FORTRESS_API_KEY", KEY)
        .current_dir(home);
    let mut process = Process::start("coordinator", &mut command);
    let line = process.wait_for("listening");
    let owner = line.split_whitespace().find_map(|word| word.strip_prefix("owner=")?.parse().ok());
    let owner = owner.unwrap_or_else(|| panic!("it does not say where it listens: {line}"));
    let worker = home.join("r/code-workers/worker.sock");
    (process, Doors { owner, worker, key: KEY.to_owned() })
}

/// Makes a git repository with one commit; the commit.
fn repository(folder: &Path) -> String {
    fs::create_dir(folder).expect("a new folder");
    fs::write(folder.join("README"), "measured\n").expect("a new file");
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
        let output = Command::new("git").arg("-C").arg(folder).args(who).args(args).output().expect("git");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "first"]);
    git(&["rev-parse", "HEAD"])
}

/// A sender and a worker, each on a connection of its own.
pub(crate) struct Cycle {
    owner: Owner,
    worker: Worker,
    task: Bytes,
}

impl Cycle {
    /// Both connect; `task` is what is sent each time.
    pub(crate) async fn new(doors: &Doors, task: &Value) -> Self {
        let (owner, worker) = (doors.owner().await, doors.worker(QUEUE).await);
        Self { owner, worker, task: task.to_string().into() }
    }

    async fn submit(&mut self) -> Bytes {
        self.owner.post("/tasks", self.task.clone()).await
    }

    async fn lease(&mut self) -> (Lease, Bytes) {
        self.worker.lease(50).await.expect("each client submits before it leases")
    }
}

impl Client for Cycle {
    async fn cycle(&mut self) {
        self.submit().await;
        let (lease, _) = self.lease().await;
        self.worker.finish(&lease).await;
    }
}

/// A sender of thousands.
pub(crate) struct Bulk {
    owner: Owner,
    tasks: Bytes,
}

impl Bulk {
    /// It connects; `tasks` is what is sent each time.
    pub(crate) async fn new(doors: &Doors, tasks: Bytes) -> Self {
        Self { owner: doors.owner().await, tasks }
    }
}

impl Client for Bulk {
    async fn cycle(&mut self) {
        self.owner.post("/tasks", self.tasks.clone()).await;
    }
}
