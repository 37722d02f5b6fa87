//! A mirror, an empty work tree and an outbox in a folder of their own.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use protocol::{
    Secret,
    lease::Assignment,
    task::{Artifact, Work},
};
use tempfile::TempDir;
use worker::{
    artifacts::{LOG, Store},
    attempt::{Attempt, Made, limit_time},
    command_line::User,
    control::{Stop, Stopper},
    events::{Spool, SpoolReader},
    git::Base,
    log::Log,
    messages::Mailbox,
    output::Output as Sink,
    places::{Places, Reach},
};

/// Users that nobody else has.
const FIRST_UID: u32 = 61_001;
/// The longest that any attempt here may take before the test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Place {
    pub(crate) places: Places,
    pub(crate) base: String,
    _folder: TempDir,
    /// Held while the test has the user.
    _user: File,
}

/// The places in a folder, for an agent that is this user.
pub(crate) fn places(folder: &Path, uid: u32) -> Places {
    let at = |name: &str| folder.join(name);
    Places {
        helper: env!("CARGO_BIN_EXE_code-workers-worker").into(),
        agent: User { uid, gid: uid },
        work: at("work"),
        mirror: at("mirror.git"),
        scratch: at("scratch"),
        outbox: at("outbox"),
        heir: true,
        reach: Reach::User,
        tmp: None,
        agent_files: at("agents"),
        agent_programs: at("programs"),
        path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
        gateway: protocol::inside::GATEWAY_URL.to_owned(),
    }
}

/// What an attempt made, and where its files are.
pub(crate) struct Outcome {
    pub(crate) made: Made,
    pub(crate) log: String,
    pub(crate) events: Vec<protocol::EventBody>,
    pub(crate) artifacts: Vec<Artifact>,
    folder: PathBuf,
}

impl Place {
    /// `None` (and a line that says so) where this process is not root.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI must run it");
            eprintln!("skipped: becoming another user needs root");
            return None;
        }
        let (uid, lock) = free_user();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        for name in ["work", "outbox", "agents", "programs", "source", "doors"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::set_permissions(at("outbox"), Permissions::from_mode(0o700)).unwrap();
        chown(at("work"), Some(uid), Some(uid)).unwrap();
        let places = places(folder.path(), uid);
        let mut place = Self { places, base: String::new(), _folder: folder, _user: lock };
        place.base = place.commit_source(&[("README.md", "one\n"), ("src/a.txt", "a\n")]);
        Some(place)
    }

    /// A place whose repository brings this script as its own agent.
    pub(crate) fn with_agent(script: &str) -> Option<Self> {
        let mut place = Self::new()?;
        let script = format!("#!/bin/bash\n{script}\n");
        place.base = place.commit_source(&[(".code-workers/agent", &script)]);
        Some(place)
    }

    /// Something in its folder.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.places.mirror.with_file_name(name)
    }

    pub(crate) fn commit_source(&self, files: &[(&str, &str)]) -> String {
        let source = self.at("source");
        git(&source, &["init", "--quiet", "--initial-branch", "main"]);
        for (name, content) in files {
            let path = source.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        git(&source, &["add", "--all"]);
        git(&source, &["commit", "--quiet", "--message", "base"]);
        let _ = fs::remove_dir_all(&self.places.mirror);
        let mirror = self.places.mirror.to_str().unwrap();
        git(&source, &["clone", "--quiet", "--mirror", ".", mirror]);
        text(&git(&source, &["rev-parse", "HEAD"]))
    }

    pub(crate) async fn exec(&self, argv: &[&str]) -> Outcome {
        self.make(self.exec_work(argv), 60, &Stopper::new()).await
    }

    pub(crate) fn exec_work(&self, argv: &[&str]) -> Work {
        Work::Exec { argv: argv.iter().map(ToString::to_string).collect() }
    }

    /// Runs the agent that the repository brings.
    pub(crate) async fn agent(&self, prompt: &str) -> Outcome {
        self.make(self.agent_work(prompt), 60, &Stopper::new()).await
    }

    pub(crate) fn agent_work(&self, prompt: &str) -> Work {
        let agent = Some("command".parse().unwrap());
        Work::Agent { prompt: prompt.to_owned(), agent, model: None }
    }

    pub(crate) fn assignment(&self, work: Work, timeout_s: u64) -> Assignment {
        Assignment {
            id: "task-1".parse().unwrap(),
            queue: "sample".parse().unwrap(),
            work,
            base_commit: self.base.clone(),
            branch: "code-workers/task-1".to_owned(),
            timeout_s,
        }
    }

    pub(crate) async fn make(&self, work: Work, timeout_s: u64, stopper: &Stopper) -> Outcome {
        self.make_task(&self.assignment(work, timeout_s), stopper, &Mailbox::default()).await
    }

    pub(crate) async fn make_task(&self, task: &Assignment, stopper: &Stopper, mailbox: &Mailbox) -> Outcome {
        let folder = self.places.outbox.join("artifacts");
        let store = Store::create(folder.clone()).unwrap();
        let spool = Spool::create(&self.places.outbox.join("events")).unwrap();
        let reader = spool.reader().unwrap();
        let output = Sink::new(Log::create(&store.path(LOG), protocol::limits::LOG_BYTES).unwrap(), spool);
        let key = Secret::new("sk-cw-test");
        let default_agent = "command".parse().unwrap();
        let attempt = Attempt {
            places: &self.places,
            task,
            base: Base::Mirror(&self.places.mirror),
            default_agent: &default_agent,
            key: Some(&key),
            provider_paths: false,
            output: &output,
            store: &store,
            stopper,
            mailbox,
        };
        let limit = limit_time(Duration::from_secs(task.timeout_s), stopper);
        let made = async {
            tokio::select! {
                made = attempt.make() => made,
                () = async { limit.await; std::future::pending().await } => unreachable!(),
            }
        };
        let made = tokio::time::timeout(PATIENCE, made).await.expect("the attempt ends");
        let (log, _) = output.end_log();
        output.end_events();
        let artifacts = made.artifacts.iter().cloned().chain(log).collect();
        let log = String::from_utf8_lossy(&fs::read(folder.join(LOG)).unwrap()).into_owned();
        Outcome { made, log, events: all(reader).await, artifacts, folder }
    }

    /// The result of an agent that changed something, cloned as its receiver would.
    pub(crate) fn received(&self, outcome: &Outcome) -> PathBuf {
        let received = self.at("received");
        let mirror = self.places.mirror.to_str().unwrap();
        git(&self.places.outbox, &["clone", "--quiet", mirror, received.to_str().unwrap()]);
        let bundle = outcome.file("bundle");
        git(&received, &["fetch", "--quiet", bundle.to_str().unwrap(), "refs/heads/code-workers/task-1"]);
        git(&received, &["checkout", "--quiet", "--detach", "FETCH_HEAD"]);
        let head = text(&git(&received, &["rev-parse", "HEAD"]));
        assert_eq!(Some(head), outcome.made.head);
        received
    }

    /// Whether any process of the agent's user is there.
    pub(crate) fn anybody_left(&self) -> bool {
        let uid = self.places.agent.uid.to_string();
        let ps = Command::new("ps").args(["-o", "pid=,stat=,args=", "-u", &uid]).output().unwrap();
        text(&ps)
            .lines()
            .any(|line| !line.split_whitespace().nth(1).is_some_and(|stat| stat.starts_with('Z')))
    }
}

impl Outcome {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        assert!(self.has(name), "{name} is not among {:?}; log: {}", self.artifacts, self.log);
        self.folder.join(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.artifacts.iter().any(|artifact| artifact.name == name)
    }

    pub(crate) fn reason(&self) -> &str {
        self.made.verdict.reason.as_deref().unwrap_or_default()
    }
}

async fn all(mut reader: SpoolReader) -> Vec<protocol::EventBody> {
    let mut bodies = Vec::new();
    while let Some(events) = reader.next_events().await.unwrap() {
        bodies.extend(events.into_iter().map(|event| event.body));
    }
    bodies
}

fn free_user() -> (u32, File) {
    let locked = |uid: &u32| {
        let file = File::create(std::env::temp_dir().join(format!("code-workers-test-uid-{uid}"))).unwrap();
        file.try_lock().is_ok().then_some((*uid, file))
    };
    (FIRST_UID..FIRST_UID + 1_000).find_map(|uid| locked(&uid)).expect("a user that no other test has")
}

pub(crate) fn git(folder: &Path, args: &[&str]) -> Output {
    let output = Command::new("git")
        .args(["-c", "user.name=tester", "-c", "user.email=tester@localhost", "-c", "safe.directory=*"])
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A reason to stop, told when this file is there.
pub(crate) async fn stop_when(path: PathBuf, why: Stop, stopper: &Stopper) {
    while !path.exists() {
        tokio::task::yield_now().await;
    }
    stopper.stop(why);
}
