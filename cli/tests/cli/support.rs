//! A home of a test's own, with the real coordinator and gateway in it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use futures_util::StreamExt;
use protocol::{
    EventBody, Secret, TaskState,
    client::{Endpoint, OwnerClient, WorkerClient},
    ids::QueueName,
    worker::NewWorker,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

/// Far over what anything takes, so that only a hang meets it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The owner's key in every test's home.
pub(crate) const KEY: &str = r#"a-key\with"marks"#;

/// What a program that has ended said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The output of a program that was to succeed.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it takes too long")
}

/// A home folder and the variables that go with it.
pub(crate) struct Home {
    pub(crate) env: BTreeMap<String, String>,
    folder: TempDir,
}

impl Home {
    /// With a key, and any port for the servers; clients use the unix socket.
    pub(crate) fn new() -> Self {
        let home = Self::without_key();
        fs::create_dir_all(home.config()).unwrap();
        fs::write(home.config().join(".env"), format!("FORTRESS_API_KEY='{KEY}'\n")).unwrap();
        home
    }

    /// As a newcomer has it.
    pub(crate) fn without_key() -> Self {
        let folder = tempfile::Builder::new().prefix("cw-").tempdir().unwrap();
        let mut env: BTreeMap<String, String> = [
            ("HOME", folder.path().to_str().unwrap()),
            ("PATH", &std::env::var("PATH").unwrap()),
            ("COORDINATOR_BIND", "127.0.0.1:0"),
            ("GATEWAY_BIND", "127.0.0.1:0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let socket = folder.path().join(".local/share/code-workers/run/owner.sock");
        env.insert("COORDINATOR_URL".to_owned(), format!("unix://{}", socket.display()));
        Self { env, folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path().join(".config/code-workers")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join(".local/share/code-workers")
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// A program, to be started in the home folder.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.env).current_dir(self.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `code-workers`.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Ran {
        self.cli_with(arguments, b"").await
    }

    /// Runs `code-workers` with something on stdin.
    pub(crate) async fn cli_with(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        run(self.command(env!("CARGO_BIN_EXE_code-workers")).args(arguments), stdin).await
    }

    /// Runs a script of the top folder.
    pub(crate) async fn script(&self, name: &str, arguments: &[&str], stdin: &[u8]) -> Ran {
        run(self.command(script(name)).args(arguments), stdin).await
    }

    /// Starts coordinator and gateway; they end with the value.
    pub(crate) async fn up(&self) -> Up {
        let mut up = Up::start(self);
        up.wait_for_line("ready: ").await;
        up
    }

    pub(crate) fn owner(&self) -> OwnerClient {
        let door = Endpoint::Unix(self.data().join("run/owner.sock"));
        OwnerClient::new(door, Secret::new(KEY)).unwrap()
    }

    /// A worker's side of a repository's queue.
    pub(crate) async fn worker(&self, repo: &str) -> WorkerClient {
        let queue: QueueName = repo.parse().unwrap();
        let worker = NewWorker { queue, name: "test".to_owned() };
        let registered = self.owner().register_worker(&worker).await.unwrap();
        WorkerClient::new(Endpoint::Unix(self.data().join("run/worker.sock")), registered.token).unwrap()
    }

    /// Waits until a task has come into a state.
    pub(crate) async fn reaches(&self, id: &str, wanted: TaskState) {
        let mut events = self.owner().events(&id.parse().unwrap(), 0, true).await.unwrap();
        let there = async {
            loop {
                let event = events.next().await.expect("it ends in another state").unwrap();
                if matches!(event.event.body, EventBody::State { state, .. } if state == wanted) {
                    return;
                }
            }
        };
        within(there).await;
    }

    /// A repository with one commit, in the folder `name`, and registered under that name.
    pub(crate) async fn repo(&self, name: &str) -> PathBuf {
        let folder = self.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.txt"), "a\n").unwrap();
        self.git(&folder, &["init", "-q", "-b", "main"]).await;
        self.git(&folder, &["add", "-A"]).await;
        self.git(&folder, &["commit", "-qm", "first"]).await;
        self.cli(&["repo", "add", name, name]).await.ok();
        folder
    }

    /// Runs git, which must succeed.
    pub(crate) async fn git(&self, folder: &Path, arguments: &[&str]) -> String {
        let mut git = self.command("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@localhost"]).args(arguments).current_dir(folder);
        run(&mut git, b"").await.ok()
    }
}

/// A script of the top folder.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(name)
}

/// Runs a program to its end.
pub(crate) async fn run(command: &mut Command, stdin: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut pipe = child.stdin.take().unwrap();
    let feed = async move {
        // A program may well end without reading it.
        let _ = pipe.write_all(stdin).await;
    };
    let (_, output) = within(async { tokio::join!(feed, child.wait_with_output()) }).await;
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A running `code-workers up`.
pub(crate) struct Up {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
    /// All lines so far.
    pub(crate) said: Vec<String>,
}

impl Up {
    pub(crate) fn start(home: &Home) -> Self {
        let mut child = home.command(env!("CARGO_BIN_EXE_code-workers")).arg("up").spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, out, err, said: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Waits for a line with this text on either stream.
    pub(crate) async fn wait_for_line(&mut self, text: &str) -> String {
        let wait = async {
            while let Some(line) = self.line().await {
                if line.contains(text) {
                    return Some(line);
                }
            }
            None
        };
        let line = within(wait).await;
        line.unwrap_or_else(|| panic!("no {text:?} in {:#?}", self.said))
    }

    /// Waits until `up` and all that it started have closed their output, which is their end.
    pub(crate) async fn wait_for_all_to_end(&mut self) -> ExitStatus {
        within(async {
            while self.line().await.is_some() {}
            self.child.wait().await.unwrap()
        })
        .await
    }

    async fn line(&mut self) -> Option<String> {
        let line = tokio::select! {
            Ok(Some(line)) = self.out.next_line() => line,
            Ok(Some(line)) = self.err.next_line() => line,
            else => return None,
        };
        self.said.push(line.clone());
        Some(line)
    }

    /// The processes of that program below this one.
    pub(crate) fn children(&self, program: &str) -> Vec<u32> {
        let parent = self.pid().to_string();
        let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent_of = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned();
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).into_owned();
            (parent_of == parent && command.contains(program)).then_some(pid)
        });
        all.collect()
    }
}

/// Ends a process that this test started.
pub(crate) fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
