//! A pinned base as a git bundle, for workers that have no mirror.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::git::Git;
use crate::limits::MAX_BASE_BUNDLE_BYTES;
use crate::{BASE_REF, Code, CommitId, RepositoryError, mirror};

/// Answers [`crate::Request::Bundle`].
pub(crate) fn write(
    mirror: &Path,
    commit: &CommitId,
    bundle: &Path,
    scratch: &Path,
) -> Result<u64, RepositoryError> {
    mirror::require(mirror)?;
    let git = Git::isolated(scratch);
    let named = scratch.join("base.git");
    name_it(&git, mirror, commit, &named)?;
    let write_failed =
        |error: &io::Error| RepositoryError::io(&format!("cannot write {}", bundle.display()), error);
    let mut file = File::create(bundle).map_err(|error| write_failed(&error))?;
    let (mut size, mut written) = (0, Ok(()));
    let finished = git.in_repository(&named).args(&["bundle", "create", "--quiet", "-", BASE_REF]).run_into(
        &mut |chunk| {
            size += chunk.len() as u64;
            written = file.write_all(chunk);
            written.is_ok() && size <= MAX_BASE_BUNDLE_BYTES
        },
    )?;
    written.map_err(|error| write_failed(&error))?;
    if finished.cut {
        return Err(too_large(commit));
    }
    finished.require("making a bundle of the base")?;
    Ok(size)
}

/// A bundle holds refs, and a mirror gets none for this: a repository beside it does, which has no object of its own.
fn name_it(git: &Git, mirror: &Path, commit: &CommitId, named: &Path) -> Result<(), RepositoryError> {
    git.command()
        .args(&["init", "--quiet", "--bare", "--template=", "--initial-branch=main"])
        .args(&["--object-format", commit.object_format(), "--"])
        .arg(named)
        .require("making a repository for the base")?;
    let objects = mirror.join("objects");
    fs::write(named.join("objects/info/alternates"), format!("{}\n", objects.display()))
        .map_err(|error| RepositoryError::io("cannot write beside the mirror", &error))?;
    let made = git.in_repository(named).args(&["update-ref", BASE_REF, commit.as_str()]).run()?;
    if made.status.success() {
        return Ok(());
    }
    Err(RepositoryError::new(
        Code::BaseUnresolvable,
        format!("the mirror has no commit {commit}"),
        "if the repository was registered anew, send the task again, from a base that its source has",
    ))
}

fn too_large(commit: &CommitId) -> RepositoryError {
    RepositoryError::new(
        Code::BundleTooLarge,
        format!("the history of {commit} is over {MAX_BASE_BUNDLE_BYTES} bytes"),
        "run its workers on this machine, where they read the mirror itself",
    )
}
