//! Putting a task's branch into the user's own repository.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::clean_repository::{CleanRepository, Expected};
use crate::git::Git;
use crate::{Applied, Code, CommitId, RepositoryError, TaskId, branch_of, report};

/// Answers [`crate::Request::Apply`]. The bundle is checked against the target's own objects.
pub(crate) fn apply(
    bundle: &Path,
    task: &TaskId,
    base: &CommitId,
    target: &Path,
    scratch: &Path,
) -> Result<Applied, RepositoryError> {
    let users = Git::for_target();
    let objects = objects_of(target, &users)?;
    let clean = CleanRepository::unpack(&Expected { bundle, task, base, objects: &objects }, scratch)?;
    let report = report::of(&clean)?;
    let branch = branch_of(task);
    if let Some(present) = commit_of(&clean.branch_ref, target, &users)? {
        return if present == clean.tip.as_str() {
            Ok(Applied { branch, created: false, report })
        } else {
            Err(taken(&branch, &format!("with another commit ({present})")))
        };
    }
    if commit_of("refs/heads/code-workers", target, &users)?.is_some() {
        return Err(taken("code-workers", "and git keeps no branch below another branch's name"));
    }
    let refs = format!("{0}:{0}", clean.branch_ref);
    clean.fetch_into(users.in_folder(target), &refs).require("bringing the branch into your repository")?;
    Ok(Applied { branch, created: true, report })
}

/// The target's `objects` folder, absolute; it may be shared by several work trees.
fn objects_of(target: &Path, users: &Git) -> Result<PathBuf, RepositoryError> {
    if !target.is_dir() {
        return Err(RepositoryError::new(
            Code::NotARepository,
            format!("{} is not a folder", target.display()),
            "name the folder of your repository",
        ));
    }
    let mut path = users
        .in_folder(target)
        .args(&["rev-parse", "--path-format=absolute", "--git-path", "objects"])
        .require(&format!("looking for your repository at {}", target.display()))?;
    if path.ends_with(b"\n") {
        path.pop();
    }
    Ok(OsString::from_vec(path).into())
}

fn commit_of(name: &str, target: &Path, users: &Git) -> Result<Option<String>, RepositoryError> {
    let asked = users.in_folder(target).args(&["rev-parse", "--quiet", "--verify", name]).run()?;
    let text = String::from_utf8_lossy(&asked.output).trim().to_owned();
    Ok((asked.status.success() && !text.is_empty()).then_some(text))
}

fn taken(branch: &str, how: &str) -> RepositoryError {
    RepositoryError::new(
        Code::BranchExists,
        format!("your repository has a branch {branch} already, {how}"),
        format!("rename it (`git branch -m {branch} NEW-NAME`) or delete it, and apply again"),
    )
}
