//! Pinning a base: what somebody typed becomes one commit.

use std::path::Path;

use crate::git::Git;
use crate::limits::MAX_BASE_BYTES;
use crate::mirror;
use crate::{Code, CommitId, RepositoryError};

/// Answers [`crate::Request::Resolve`].
pub(crate) fn resolve(
    mirror: &Path,
    base: Option<&str>,
    scratch: &Path,
) -> Result<CommitId, RepositoryError> {
    mirror::require(mirror)?;
    let candidates = match base {
        None => vec!["HEAD".to_owned()],
        Some(base) => candidates_of(base)?,
    };
    // One line in, one line out: `<object> commit <size>`, or that it is missing or ambiguous.
    let lines: String = candidates.iter().map(|name| format!("{name}^{{commit}}\n")).collect();
    let found = Git::isolated(scratch)
        .in_repository(mirror)
        .args(&["cat-file", "--batch-check"])
        .input(&lines)
        .require("looking up the base")?;
    String::from_utf8_lossy(&found).lines().find_map(commit_of).ok_or_else(|| unresolvable(base))
}

/// What is missing or ambiguous begins with what was asked, which is no id for its `^{commit}`.
fn commit_of(line: &str) -> Option<CommitId> {
    line.split(' ').next()?.parse().ok()
}

/// The refs and ids that `base` may mean, the likeliest first. git's own guessing is not used: it knows too many
/// ways (`@{-1}`, `:/text`, remotes, what `git describe` prints).
fn candidates_of(base: &str) -> Result<Vec<String>, RepositoryError> {
    let odd = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    if base.is_empty() || base.len() > MAX_BASE_BYTES || base.starts_with('-') || base.contains(odd) {
        return Err(illegal());
    }
    if base == "HEAD" {
        return Ok(vec![base.to_owned()]);
    }
    if base.parse::<CommitId>().is_ok() {
        return Ok(vec![base.to_owned()]);
    }
    if base.starts_with("refs/") {
        let known =
            ["refs/heads/", "refs/tags/", "refs/code-workers/"].iter().any(|folder| base.starts_with(folder));
        return if known { Ok(vec![base.to_owned()]) } else { Err(illegal()) };
    }
    let mut candidates = vec![format!("refs/heads/{base}"), format!("refs/tags/{base}")];
    if (4..=64).contains(&base.len()) && base.bytes().all(|b| b.is_ascii_hexdigit()) {
        candidates.push(base.to_owned());
    }
    Ok(candidates)
}

fn illegal() -> RepositoryError {
    RepositoryError::new(
        Code::BaseUnresolvable,
        "the base is not a name that can be looked up",
        "name a branch, a tag, a commit id, or refs/code-workers/<task>",
    )
}

fn unresolvable(base: Option<&str>) -> RepositoryError {
    let message = match base {
        Some(base) => format!("the base `{base}` names no commit in the repository"),
        None => "the repository's HEAD has no commit".to_owned(),
    };
    RepositoryError::new(
        Code::BaseUnresolvable,
        message,
        "name a branch, a tag or a commit that the source has; a new commit has to be committed there first",
    )
}
