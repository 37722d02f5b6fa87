//! From `held` to `ready`: brings a repository's mirror up to date and pins its tasks' bases. One loop a repository,
//! so that a slow one delays no other; git runs in the repository room's helper.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::SignedDuration;
use protocol::{QueueName, TaskId, TaskState, folders::Folders};
use repository::{Code, CommitId, Helper, RepositoryError};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    artifacts::Artifacts,
    clock::Clock,
    queue::{Command, Queue, Row, StoreError, full_commit, locked},
};

/// The branch of another task's result, as a base.
const RESULT: &str = "code-workers/";
/// The artifact that holds a result's branch.
const BUNDLE: &str = "bundle";

/// A source that cannot be reached is asked again after this time …
const TRY_AGAIN: Duration = Duration::from_secs(15);
/// … until its task has been held for so long.
const GIVE_UP: SignedDuration = SignedDuration::from_mins(10);

/// The pause after the database failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Pins the bases of held tasks.
#[derive(Clone)]
pub struct Source {
    /// The queues.
    pub queue: Arc<Queue>,
    /// Runs git.
    pub helper: Helper,
    /// Where mirrors lie.
    pub folders: Folders,
    /// Where bundles lie.
    pub artifacts: Artifacts,
    /// What time it is.
    pub clock: Clock,
    /// Queues with tasks that are tried again soon.
    pub put_off: Arc<Mutex<HashSet<QueueName>>>,
}

/// A base that cannot be had: the word for the task's reason, and the sentence.
struct Unpinned {
    code: &'static str,
    why: String,
    /// It may be had later: the network, or the machine, is at fault.
    passing: bool,
}

/// Why a task was not pinned.
enum Fault {
    /// By its base or its repository: it fails.
    Task(Unpinned),
    /// By the database: it stays held.
    Store(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<RepositoryError> for Fault {
    fn from(error: RepositoryError) -> Self {
        let passing = matches!(error.code, Code::Timeout | Code::SourceMissing | Code::HelperFailed);
        Self::Task(Unpinned { code: word(error.code), why: error.to_string(), passing })
    }
}

fn unresolvable(why: String) -> Fault {
    Fault::Task(Unpinned { code: "base_unresolvable", why, passing: false })
}

/// Loops that run; `true` where there is more to do than the loop may have seen.
type Running = Arc<Mutex<HashMap<QueueName, bool>>>;

impl Source {
    /// Serves the queues whose names come, until `stop`.
    pub async fn run(self, mut held: UnboundedReceiver<QueueName>, stop: CancellationToken) {
        let running = Running::default();
        let loops = TaskTracker::new();
        loop {
            let queue = tokio::select! {
                queue = held.recv() => queue,
                () = stop.cancelled() => None,
            };
            let Some(queue) = queue else { break };
            let mut now_running = locked(&running);
            if let Some(more) = now_running.get_mut(&queue) {
                *more = true;
                continue;
            }
            now_running.insert(queue.clone(), false);
            drop(now_running);
            let (source, running, stop) = (self.clone(), running.clone(), stop.clone());
            loops.spawn(async move {
                tokio::select! {
                    () = source.serve(&queue, &running) => {}
                    // A helper that runs ends with this future; its task stays held, and is taken up again.
                    () = stop.cancelled() => {}
                }
            });
        }
        loops.close();
        loops.wait().await;
    }

    async fn serve(&self, queue: &QueueName, running: &Running) {
        loop {
            match self.serve_once(queue).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%queue, %error, "held tasks wait for the database");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            }
            let mut running = locked(running);
            if running.insert(queue.clone(), false) != Some(true) {
                running.remove(queue);
                return;
            }
        }
    }

    /// Pins what is held; whether there may be more to do now.
    async fn serve_once(&self, queue: &QueueName) -> Result<bool, StoreError> {
        let held = self.queue.held(queue)?;
        if held.is_empty() {
            return Ok(false);
        }
        let Some(repo) = self.queue.repo(queue)? else {
            return Ok(false);
        };
        let mirror = Mirror { source: self, queue, url: repo.source, refreshed: None };
        let put_off = mirror.pin_all(held).await?;
        if put_off && locked(&self.put_off).insert(queue.clone()) {
            let (source, queue) = (self.clone(), queue.clone());
            tokio::spawn(async move {
                tokio::time::sleep(TRY_AGAIN).await;
                locked(&source.put_off).remove(&queue);
                source.queue.wake().hold(queue);
            });
        }
        Ok(!put_off)
    }
}

/// One repository's mirror, refreshed at most once for all tasks that wait.
struct Mirror<'a> {
    source: &'a Source,
    queue: &'a QueueName,
    url: String,
    refreshed: Option<Result<(), RepositoryError>>,
}

impl Mirror<'_> {
    /// Whether a task is to be tried again later.
    async fn pin_all(mut self, held: Vec<Row>) -> Result<bool, StoreError> {
        let mut put_off = false;
        for row in held {
            let task = row.id.clone();
            let requested = self.source.queue.task(&task)?.and_then(|task| task.base.requested);
            let now = || self.source.clock.now();
            let done = match self.commit(requested.as_deref()).await {
                Ok(commit) => self.source.queue.pin(task.clone(), commit.to_string(), now()).await,
                Err(Fault::Task(unpinned)) => {
                    // A folder that is not there does not come by itself.
                    let gone = unpinned.code == word(Code::SourceMissing) && self.url.starts_with('/');
                    let waited = now().duration_since(row.since);
                    let later = unpinned.passing && !gone && waited < GIVE_UP;
                    put_off |= later;
                    let Unpinned { code, why, .. } = unpinned;
                    tracing::info!(%task, code, %why, later, "a task's base cannot be had");
                    let command = if later {
                        let reason = format!("source: {code}: {why}; it is tried again");
                        Command::PutOffSource { reason }
                    } else {
                        Command::RefuseSource { reason: format!("{code}: {why}") }
                    };
                    self.source.queue.command(task.clone(), command, now()).await.map(|_| ())
                }
                Err(Fault::Store(error)) => Err(error),
            };
            match done {
                // It was cancelled meanwhile.
                Ok(()) | Err(StoreError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(put_off)
    }

    async fn commit(&mut self, requested: Option<&str>) -> Result<CommitId, Fault> {
        let path = self.source.folders.mirror(self.queue);
        let helper = &self.source.helper;
        if let Some(result) = requested.and_then(|base| base.strip_prefix(RESULT)) {
            return self.result_of(result).await;
        }
        // A commit never changes: a mirror that has it needs no refresh.
        if let Some(commit) = requested.and_then(full_commit)
            && let Ok(commit) = helper.resolve(&path, Some(&commit)).await
        {
            return Ok(commit);
        }
        self.refresh().await?;
        let requested = requested.map(|base| full_commit(base).unwrap_or_else(|| base.to_owned()));
        Ok(helper.resolve(&path, requested.as_deref()).await?)
    }

    async fn refresh(&mut self) -> Result<(), RepositoryError> {
        if let Some(done) = &self.refreshed {
            return done.clone();
        }
        let path = self.source.folders.mirror(self.queue);
        let done = self.source.helper.refresh(&path, &self.url).await.map(|_| ());
        self.refreshed = Some(done.clone());
        done
    }

    /// Imports another task's result into the mirror, and takes its tip.
    async fn result_of(&mut self, branch_part: &str) -> Result<CommitId, Fault> {
        let source = self.source;
        // A branch may spell a dot as `%2E`, an id never does.
        let id = branch_part.replace("%2E", ".");
        let named = || format!("the base {RESULT}{branch_part}");
        let task = match id.parse::<TaskId>() {
            Ok(id) => source.queue.task(&id)?,
            Err(_) => None,
        };
        let Some(task) = task.filter(|task| task.queue == *self.queue) else {
            return Err(unresolvable(format!("{} names no task of this repository", named())));
        };
        if !task.state.is_terminal() {
            return Err(unresolvable(format!(
                "{} is of a task that is {}; wait for its end",
                named(),
                task.state
            )));
        }
        let listed = task.artifacts.iter().any(|artifact| artifact.name == BUNDLE);
        let bundle = source.artifacts.find(&task.id, task.attempt, BUNDLE).filter(|_| listed);
        let base = task.base.commit.as_deref().and_then(|commit| commit.parse::<CommitId>().ok());
        let (Some(bundle), Some(base), Ok(of)) = (bundle, base, task.id.as_str().parse()) else {
            let why = if task.state == TaskState::Succeeded { "changed nothing" } else { "left no branch" };
            return Err(unresolvable(format!("{} is of a task that {why}", named())));
        };
        let mirror = source.folders.mirror(self.queue);
        Ok(source.helper.import(&bundle, &of, &base, &mirror).await?.report.tip)
    }
}

/// The stable word of a helper's error.
fn word(code: Code) -> &'static str {
    match code {
        Code::SourceInvalid => "source_invalid",
        Code::SourceMissing => "source_missing",
        Code::SourceDenied => "source_denied",
        Code::SourceEmpty => "source_empty",
        Code::SourceShallow => "source_shallow",
        Code::NotARepository => "not_a_repository",
        Code::MirrorMissing => "mirror_missing",
        Code::BaseUnresolvable => "base_unresolvable",
        Code::BundleMissing => "bundle_missing",
        Code::BundleMalformed | Code::BundleTooLarge | Code::BundleRefs => "bundle_refused",
        Code::BundleUnrelated | Code::BundleRefused => "bundle_refused",
        Code::Timeout => "source_timeout",
        Code::GitMissing => "git_missing",
        Code::HelperFailed => "helper_failed",
        _ => "source_failed",
    }
}
