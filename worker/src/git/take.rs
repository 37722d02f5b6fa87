//! After the agent: whatever it left becomes a commit on the task's branch.

use super::{
    base::Base,
    checkout::CheckoutError,
    command::{Git, GitError},
    rescue,
};
use crate::places::Places;

/// The result, as a commit in a repository.
#[derive(Debug)]
pub struct Taken<'a> {
    /// Where the commit is.
    pub git: Git<'a>,
    /// The branch's tip; `None` where nothing was changed.
    pub head: Option<String>,
    /// What went wrong on the way and was got round.
    pub notes: Vec<String>,
}

/// Commits what is uncommitted and puts the branch on it. The result is HEAD's commit, whatever branch the agent
/// is on, when it descends from the base; else the work tree as one commit on the base. Where the agent's
/// repository is gone or broken, a new one is made beside it.
///
/// # Errors
/// When the new repository does not work either.
pub async fn take<'a>(
    places: &'a Places,
    from: Base<'_>,
    base: &str,
    branch: &str,
    message: &str,
) -> Result<Taken<'a>, CheckoutError> {
    let git = Git::in_work_tree(places);
    let mut notes = Vec::new();
    match commit(&git, base, message, &mut notes).await {
        Ok(head) => match point(&git, branch, &head).await {
            Ok(()) => return Ok(Taken { head: (head != base).then_some(head), git, notes }),
            Err(error) => notes.push(error.to_string()),
        },
        Err(error) => notes.push(error.to_string()),
    }
    notes.push("the agent's repository cannot be used: the files were taken into a new one".to_owned());
    let git = rescue::repository(places, from, base).await?;
    let head = snapshot(&git, base, message).await?;
    point(&git, branch, &head).await?;
    Ok(Taken { head: (head != base).then_some(head), git, notes })
}

async fn point(git: &Git<'_>, branch: &str, head: &str) -> Result<(), GitError> {
    git.answer(&["update-ref", "--no-deref", &format!("refs/heads/{branch}"), head]).await.map(drop)
}

/// The commit that holds all that the agent did.
async fn commit(
    git: &Git<'_>,
    base: &str,
    message: &str,
    notes: &mut Vec<String>,
) -> Result<String, GitError> {
    // A `.git` that is gone must not be looked for in a folder above.
    let own = git.with_git_dir(git.places().work.join(".git"));
    let head = match own.answer(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).await {
        // All that comes after would be as slow again.
        Err(error @ GitError::TooSlow { .. }) => return Err(error),
        head => head.ok(),
    };
    let parent = match head {
        Some(head) if own.succeeds(&["merge-base", "--is-ancestor", base, &head]).await? => head,
        _ => {
            notes.push(
                "HEAD does not descend from the base: the work tree was taken as one commit".to_owned(),
            );
            base.to_owned()
        }
    };
    match add_all(&own).await {
        Ok(()) => commit_index(&own, &parent, message).await,
        // It would be as slow again.
        Err(error @ GitError::TooSlow { .. }) => Err(error),
        Err(error) => {
            // A lock that was left, an index that is broken: begin with a new one.
            notes.push(error.to_string());
            snapshot(&own, &parent, message).await
        }
    }
}

/// The work tree as a commit on `parent`, with a new index.
async fn snapshot(git: &Git<'_>, parent: &str, message: &str) -> Result<String, GitError> {
    let git = git.with_index(git.places().result().join("index"));
    git.answer(&["read-tree", parent]).await?;
    add_all(&git).await?;
    commit_index(&git, parent, message).await
}

async fn commit_index(git: &Git<'_>, parent: &str, message: &str) -> Result<String, GitError> {
    let tree = git.answer(&["write-tree"]).await?;
    if git.answer(&["rev-parse", &format!("{parent}^{{tree}}")]).await? == tree {
        return Ok(parent.to_owned());
    }
    git.answer(&["commit-tree", "-p", parent, "-m", message, &tree]).await
}

/// Unreadable files, sockets and repositories without a commit are left out, and the rest is added.
async fn add_all(git: &Git<'_>) -> Result<(), GitError> {
    let but = format!(":(exclude,top){}", super::ARTIFACTS);
    let add = ["add", "--all", "--ignore-errors", "--", ".", &but];
    match git.answer(&add).await {
        // 1: some file could not be added; the others were.
        Err(GitError::Failed { status, .. }) if status.code() == Some(1) => Ok(()),
        done => done.map(drop),
    }
}
