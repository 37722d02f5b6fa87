//! `apply`: puts a task's branch into the owner's repository. Nothing is checked out or merged.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use protocol::{
    TaskId,
    client::{ClientError, OwnerClient},
};
use repository::{Applied, Code, CommitId, Helper, RepositoryError};
use tempfile::TempPath;

use crate::{
    artifact, bundle_base,
    context::Context,
    failure::{Exit, Failure},
    terminal::{note, say},
};

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// The task.
    id: TaskId,
    /// The repository that gets the branch, instead of the one in this folder, or else the task's own.
    #[arg(long, value_name = "PATH")]
    into: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context, command: &Apply) -> Result<Exit, Failure> {
    let id = &command.id;
    let found = match from_coordinator(&context.client()?, id).await {
        Err(Failure::Told { exit: Exit::Unreachable, text }) => from_disk(context, id, &text)?,
        found => found?,
    };
    let targets = targets(command.into.as_deref(), found.source.clone())?;
    let task = id.as_str().parse().map_err(|error| Failure::new(Exit::Usage, format!("{error}")))?;
    for (place, target) in targets.iter().enumerate() {
        match Helper::find().apply(found.bundle.path(), &task, &found.base, target).await {
            Ok(applied) => return tell(&applied, target),
            Err(error) if error.code == Code::BaseMissing && place + 1 < targets.len() => {}
            Err(error) => return Err(refused(&error, target)),
        }
    }
    Err(Failure::new(
        Exit::Usage,
        "there is no repository here\nname yours: code-workers apply ID --into PATH",
    ))
}

/// What is to be applied.
struct Found {
    bundle: Bundle,
    base: CommitId,
    /// The task's own repository, where that is a folder.
    source: Option<PathBuf>,
}

/// The bundle's file.
enum Bundle {
    /// Goes away with this value.
    Downloaded(TempPath),
    /// The coordinator's own.
    Stored(PathBuf),
}

impl Bundle {
    fn path(&self) -> &Path {
        match self {
            Self::Downloaded(path) => path,
            Self::Stored(path) => path,
        }
    }
}

async fn from_coordinator(client: &OwnerClient, id: &TaskId) -> Result<Found, Failure> {
    let task = client.task(id, Duration::ZERO).await?;
    let on_disk = |error: std::io::Error| Failure::new(Exit::Failed, format!("a temporary file: {error}"));
    let mut file = tempfile::NamedTempFile::new().map_err(on_disk)?;
    artifact::download(client, id, "bundle", |bytes| file.write_all(bytes).map_err(on_disk)).await?;
    file.flush().map_err(on_disk)?;
    let base = task.base.commit.and_then(|commit| commit.parse().ok()).ok_or_else(|| no_base(id))?;
    let source = match client.repos().await {
        Ok(repos) => repos.into_iter().find(|repo| repo.name == task.queue).map(|repo| repo.source.into()),
        Err(ClientError::Refused(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let source = source.filter(|path: &PathBuf| path.is_absolute() && path.is_dir());
    Ok(Found { bundle: Bundle::Downloaded(file.into_temp_path()), base, source })
}

/// The artifacts are the owner's own files, so the coordinator need not run.
fn from_disk(context: &Context, id: &TaskId, why: &str) -> Result<Found, Failure> {
    let bundle = context.folders.artifacts(id).join("bundle");
    let base = bundle_base::of(&bundle)
        .map_err(|_| Failure::new(Exit::Unreachable, why))?
        .ok_or_else(|| no_base(id))?;
    note("code-workers: the coordinator is not reachable; this is from its files");
    Ok(Found { bundle: Bundle::Stored(bundle), base, source: None })
}

fn no_base(id: &TaskId) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("the commit that {id} started from is not known, so it cannot be applied"),
    )
}

/// Where the branch may go, in the order of trying.
fn targets(into: Option<&Path>, source: Option<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
    if let Some(into) = into {
        let absolute = std::path::absolute(into);
        return Ok(vec![absolute.map_err(|error| Failure::new(Exit::Usage, format!("--into: {error}")))?]);
    }
    let here = std::env::current_dir()
        .map_err(|error| Failure::new(Exit::Failed, format!("the working folder is not known: {error}")))?;
    let own = here.ancestors().find(|folder| folder.join(".git").exists()).map(Path::to_owned);
    Ok(own.into_iter().chain(source).collect())
}

fn tell(applied: &Applied, target: &Path) -> Result<Exit, Failure> {
    let (branch, report) = (&applied.branch, &applied.report);
    let is = if applied.created { "is now" } else { "was already" };
    let folder = target.display();
    say(&format!(
        "{branch} {is} in {folder}: {} commits, {} files, +{} -{}",
        report.commits, report.files, report.insertions, report.deletions
    ))?;
    say(&format!("to look at it: git -C '{folder}' log -p HEAD..{branch}"))?;
    say(&format!("to take it:    git -C '{folder}' merge {branch}"))?;
    Ok(Exit::Succeeded)
}

fn refused(error: &RepositoryError, target: &Path) -> Failure {
    let remedy = match error.code {
        Code::BaseMissing => "name the repository that the task came from: --into PATH",
        _ => &error.remedy,
    };
    Failure::new(Exit::Failed, format!("{}: {}\n{remedy}", target.display(), error.message))
}
