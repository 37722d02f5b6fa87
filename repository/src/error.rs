//! What can go wrong, with a stable code, the fault and the remedy.

use serde::{Deserialize, Serialize};

/// The stable word for a failure; on the wire in snake case (`source_missing`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The source is no path or URL of a kind that is fetched from.
    SourceInvalid,
    /// The source's path does not exist, or its host cannot be reached.
    SourceMissing,
    /// The source wants a credential that is not there, or refused the one that is.
    SourceDenied,
    /// The source has no commit.
    SourceEmpty,
    /// The source is a shallow clone: history is missing in it.
    SourceShallow,
    /// There is no git repository at the source or target.
    NotARepository,
    /// The mirror is not there; it has not been refreshed yet, or was removed.
    MirrorMissing,
    /// The base names no commit in the mirror.
    BaseUnresolvable,
    /// The repository does not have the task's base commit.
    BaseMissing,
    /// The bundle's file is not there or cannot be read.
    BundleMissing,
    /// The file is not a complete, well-formed git bundle.
    BundleMalformed,
    /// The bundle is larger than a limit allows.
    BundleTooLarge,
    /// The bundle holds another ref than the task's branch, more than one, or none.
    BundleRefs,
    /// The bundle's branch does not descend from the task's base.
    BundleUnrelated,
    /// git's own checks found objects that must not enter a repository.
    BundleRefused,
    /// The target has a branch of the task's name with another commit.
    BranchExists,
    /// It took longer than its time limit.
    Timeout,
    /// There is no git on the PATH.
    GitMissing,
    /// git failed in a way that no other code names.
    GitFailed,
    /// The request itself makes no sense.
    BadRequest,
    /// The program `code-workers-repository` cannot be run, or died.
    HelperFailed,
}

/// A failure: what happened and why (`message`), and what to do about it (`remedy`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct RepositoryError {
    /// The stable word to decide by.
    pub code: Code,
    /// What happened, and why. Holds no credential and no control character.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl RepositoryError {
    pub(crate) fn new(code: Code, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, message: printable(&message.into()), remedy: printable(&remedy.into()) }
    }

    /// A failure of the machine (no space, no permission, …) while doing `what`.
    pub(crate) fn io(what: &str, error: &std::io::Error) -> Self {
        Self::new(
            Code::GitFailed,
            format!("{what}: {error}"),
            "see to the folder, its space and its permissions",
        )
    }
}

/// What others wrote may hold escape sequences for the terminal that will show it.
pub(crate) fn printable(text: &str) -> String {
    text.replace('\n', "; ").replace(char::is_control, "?")
}
