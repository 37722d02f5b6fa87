//! The client: runs `code-workers-repository` once a request, and ends it when its time is up.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::limits::{self, KILL_GRACE, MAX_MESSAGE_BYTES};
use crate::{
    Answer, Applied, BundleReport, Code, CommitId, Imported, Refreshed, RepositoryError, Request,
    SourceDescription, TaskId, environment,
};

/// The program's name.
pub const PROGRAM: &str = "code-workers-repository";

/// Runs the program. Cheap to clone; each call is a process of its own, so calls go side by side.
#[derive(Debug, Clone)]
pub struct Helper {
    program: PathBuf,
    /// Instead of each request's own limit.
    time_limit: Option<Duration>,
}

impl Helper {
    /// For the program at `program`.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), time_limit: None }
    }

    /// For the program beside the running one, else the one on the PATH.
    #[must_use]
    pub fn find() -> Self {
        let beside =
            std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM)).filter(|path| path.is_file());
        Self::new(beside.unwrap_or_else(|| PROGRAM.into()))
    }

    /// The same with one time limit for every request, instead of those of [`limits::time_limit`].
    #[must_use]
    pub fn with_time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit: Some(time_limit), ..self }
    }

    /// [`Request::Describe`].
    pub async fn describe(&self, source: &str) -> Result<SourceDescription, RepositoryError> {
        match self.ask(&Request::Describe { source: source.to_owned() }).await? {
            Answer::Described(description) => Ok(description),
            other => Err(unexpected(other)),
        }
    }

    /// [`Request::Refresh`].
    pub async fn refresh(&self, mirror: &Path, source: &str) -> Result<Refreshed, RepositoryError> {
        match self.ask(&Request::Refresh { mirror: mirror.into(), source: source.to_owned() }).await? {
            Answer::Refreshed(refreshed) => Ok(refreshed),
            other => Err(unexpected(other)),
        }
    }

    /// [`Request::Resolve`].
    pub async fn resolve(&self, mirror: &Path, base: Option<&str>) -> Result<CommitId, RepositoryError> {
        match self.ask(&Request::Resolve { mirror: mirror.into(), base: base.map(str::to_owned) }).await? {
            Answer::Resolved { commit } => Ok(commit),
            other => Err(unexpected(other)),
        }
    }

    /// [`Request::Bundle`]: its size in bytes.
    pub async fn bundle(
        &self,
        mirror: &Path,
        commit: &CommitId,
        bundle: &Path,
    ) -> Result<u64, RepositoryError> {
        let (mirror, commit, bundle) = (mirror.into(), commit.clone(), bundle.into());
        match self.ask(&Request::Bundle { mirror, commit, bundle }).await? {
            Answer::Bundled { size } => Ok(size),
            other => Err(unexpected(other)),
        }
    }

    /// [`Request::Check`].
    pub async fn check(
        &self,
        bundle: &Path,
        task: &TaskId,
        base: &CommitId,
        mirror: &Path,
    ) -> Result<BundleReport, RepositoryError> {
        let (bundle, task, base, mirror) = (bundle.into(), task.clone(), base.clone(), mirror.into());
        match self.ask(&Request::Check { bundle, task, base, mirror }).await? {
            Answer::Checked(report) => Ok(report),
            other => Err(unexpected(other)),
        }
    }

    /// [`Request::Import`].
    pub async fn import(
        &self,
        bundle: &Path,
        task: &TaskId,
        base: &CommitId,
        mirror: &Path,
    ) -> Result<Imported, RepositoryError> {
        let (bundle, task, base, mirror) = (bundle.into(), task.clone(), base.clone(), mirror.into());
        match self.ask(&Request::Import { bundle, task, base, mirror }).await? {
            Answer::Imported(imported) => Ok(imported),
            other => Err(unexpected(other)),
        }
    }

    /// [`Request::Apply`].
    pub async fn apply(
        &self,
        bundle: &Path,
        task: &TaskId,
        base: &CommitId,
        target: &Path,
    ) -> Result<Applied, RepositoryError> {
        let (bundle, task, base, target) = (bundle.into(), task.clone(), base.clone(), target.into());
        match self.ask(&Request::Apply { bundle, task, base, target }).await? {
            Answer::Applied(applied) => Ok(applied),
            other => Err(unexpected(other)),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Answer, RepositoryError> {
        let limit = self.time_limit.unwrap_or_else(|| limits::time_limit(request));
        let question = serde_json::to_vec(request).map_err(|error| {
            RepositoryError::new(
                Code::BadRequest,
                format!("a path is not UTF-8: {error}"),
                "rename the folder",
            )
        })?;
        // Made here and not in the program, so that it goes even when the program is killed.
        let scratch = tempfile::Builder::new()
            .prefix("code-workers-repository-")
            .tempdir()
            .map_err(|error| RepositoryError::io("cannot make a temporary folder", &error))?;
        let mut running = Running::start(&self.program, scratch.path())?;
        match tokio::time::timeout(limit, running.exchange(&question)).await {
            Ok(answer) => answer,
            Err(_) => {
                running.end().await;
                Err(RepositoryError::new(
                    Code::Timeout,
                    format!("git took longer than {} s", limit.as_secs_f32()),
                    "check the source and its network, and whether another refresh of the same repository hangs",
                ))
            }
        }
    }
}

/// The program and everything below it: one process group, which dies with this value.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    fn start(program: &Path, scratch: &Path) -> Result<Self, RepositoryError> {
        let child = Command::new(program)
            .env_clear()
            .envs(environment::of_program())
            .env("TMPDIR", scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| helper_failed(&format!("{} cannot be run: {error}", program.display())))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, group })
    }

    async fn exchange(&mut self, question: &[u8]) -> Result<Answer, RepositoryError> {
        let died = |error: std::io::Error| helper_failed(&format!("{PROGRAM} broke off: {error}"));
        if let Some(mut stdin) = self.child.stdin.take() {
            stdin.write_all(question).await.map_err(died)?;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = self.child.stdout.take() {
            stdout.take(MAX_MESSAGE_BYTES).read_to_end(&mut answer).await.map_err(died)?;
        }
        let status = self.child.wait().await.map_err(died)?;
        self.group = None;
        match serde_json::from_slice(&answer) {
            Ok(Answer::Failed(error)) => Err(error),
            Ok(answer) => Ok(answer),
            Err(_) => Err(helper_failed(&format!("{PROGRAM} gave no answer and ended with {status}"))),
        }
    }

    /// Lets git remove its lock files, and then ends whatever is left. The child is not waited for in between: as
    /// long as it is a zombie, no other process group can get its number.
    async fn end(&mut self) {
        if let Some(group) = self.group {
            // Either may find that all have ended.
            let _ = kill_process_group(group, Signal::TERM);
            tokio::time::sleep(KILL_GRACE).await;
        }
        self.kill();
        let _ = self.child.wait().await;
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn unexpected(answer: Answer) -> RepositoryError {
    match answer {
        Answer::Failed(error) => error,
        _ => helper_failed(&format!("{PROGRAM} answered another request than was asked")),
    }
}

fn helper_failed(why: &str) -> RepositoryError {
    RepositoryError::new(
        Code::HelperFailed,
        why.to_owned(),
        "install the programs of code-workers together, in one folder or on the PATH",
    )
}
