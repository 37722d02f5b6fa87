//! What a checked branch changes, and whether it is small enough to be shown to anyone.

use crate::clean_repository::{CleanRepository, too_large};
use crate::failure;
use crate::limits::{MAX_CHANGED_FILES, MAX_COMMITS, MAX_PATH_BYTES, MAX_TREE_ENTRIES};
use crate::{BundleReport, RepositoryError};

/// Counts, and refuses what is over a limit.
pub(crate) fn of(clean: &CleanRepository) -> Result<BundleReport, RepositoryError> {
    let commits = commits(clean)?;
    bound_tree(clean)?;
    let mut report = BundleReport { tip: clean.tip.clone(), commits, files: 0, insertions: 0, deletions: 0 };
    let output = clean
        .git
        .in_repository(&clean.path)
        .args(&["diff-tree", "-r", "-z", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv"])
        .args(&[clean.base.as_str(), clean.tip.as_str(), "--"])
        .require("comparing the branch with its base")?;
    for row in output.split(|byte| *byte == 0).filter(|row| !row.is_empty()) {
        let mut columns = row.splitn(3, |byte| *byte == b'\t');
        report.files += 1;
        report.insertions += number(columns.next());
        report.deletions += number(columns.next());
    }
    if report.files > MAX_CHANGED_FILES {
        return Err(too_large(&format!(
            "it changes {} files, and {MAX_CHANGED_FILES} are allowed",
            report.files
        )));
    }
    Ok(report)
}

fn commits(clean: &CleanRepository) -> Result<u64, RepositoryError> {
    let range = format!("{}..{}", clean.base, clean.tip);
    let counted = clean
        .git
        .in_repository(&clean.path)
        .args(&["rev-list", "--count", &range, "--"])
        .require("counting the branch's commits")?;
    let commits = number(Some(counted.trim_ascii()));
    if commits > MAX_COMMITS {
        return Err(too_large(&format!("it has {commits} commits, and {MAX_COMMITS} are allowed")));
    }
    Ok(commits)
}

/// Spells the tree out, as a checkout would, and stops at a limit. This stands before the comparison: `ls-tree`
/// holds nothing in memory.
fn bound_tree(clean: &CleanRepository) -> Result<(), RepositoryError> {
    let (mut entries, mut path) = (0_u64, 0_usize);
    let walked = clean
        .git
        .in_repository(&clean.path)
        .args(&["ls-tree", "-r", "-t", "-z", "--name-only", "--full-tree", clean.tip.as_str()])
        .run_into(&mut |chunk| {
            for byte in chunk {
                path = if *byte == 0 { 0 } else { path + 1 };
                entries += u64::from(*byte == 0);
                if path > MAX_PATH_BYTES || entries > MAX_TREE_ENTRIES {
                    return false;
                }
            }
            true
        })?;
    if path > MAX_PATH_BYTES {
        return Err(too_large(&format!("it has a path of more than {MAX_PATH_BYTES} bytes")));
    }
    if walked.cut {
        return Err(too_large(&format!("its tree has more than {MAX_TREE_ENTRIES} entries")));
    }
    if !walked.status.success() {
        return Err(failure::of_git("reading the branch's tree", &walked.complaints, None));
    }
    Ok(())
}

/// A decimal number; a binary file has `-` for its lines.
fn number(digits: Option<&[u8]>) -> u64 {
    digits
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}
