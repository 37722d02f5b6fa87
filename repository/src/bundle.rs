//! Checking a bundle against a mirror, and bringing its branch into the mirror.

use std::path::Path;

use crate::clean_repository::{CleanRepository, Expected};
use crate::lock::MirrorLock;
use crate::{
    BundleReport, CommitId, Imported, RepositoryError, TaskId, leftovers, mirror, mirror_ref_of, report,
};

/// Answers [`crate::Request::Check`].
pub(crate) fn check(
    bundle: &Path,
    task: &TaskId,
    base: &CommitId,
    mirror: &Path,
    scratch: &Path,
) -> Result<BundleReport, RepositoryError> {
    checked(bundle, task, base, mirror, scratch).map(|(_, report)| report)
}

/// Answers [`crate::Request::Import`].
pub(crate) fn import(
    bundle: &Path,
    task: &TaskId,
    base: &CommitId,
    mirror: &Path,
    scratch: &Path,
) -> Result<Imported, RepositoryError> {
    let (clean, report) = checked(bundle, task, base, mirror, scratch)?;
    let ref_name = mirror_ref_of(task);
    let _turn = MirrorLock::take(mirror)?;
    leftovers::clear(mirror);
    let refs = format!("+{}:{ref_name}", clean.branch_ref);
    clean
        .fetch_into(clean.git.in_repository(mirror), &refs)
        .require("bringing the branch into the mirror")?;
    Ok(Imported { ref_name, report })
}

fn checked(
    bundle: &Path,
    task: &TaskId,
    base: &CommitId,
    mirror: &Path,
    scratch: &Path,
) -> Result<(CleanRepository, BundleReport), RepositoryError> {
    mirror::require(mirror)?;
    let expected = Expected { bundle, task, base, objects: &mirror.join("objects") };
    let clean = CleanRepository::unpack(&expected, scratch)?;
    let report = report::of(&clean)?;
    Ok((clean, report))
}
