//! What can be asked of the program, and what it answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{CommitId, RepositoryError, TaskId};

/// One operation. All paths are of the host, and absolute but for a source that somebody typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub enum Request {
    /// Looks at a source before it is registered: it exists, is a repository and has a commit.
    Describe {
        /// A path, or an `https://`, `http://`, `ssh://`, `git://`, `file://` URL, or `user@host:path`.
        source: String,
    },
    /// Makes the bare mirror where there is none, and brings the source's branches and tags into it. Nothing is
    /// ever removed from a mirror, since a sandbox may be reading it; two refreshes of one mirror take turns.
    Refresh {
        /// The mirror's folder, `<data>/mirrors/<name>.git`. A lock file stands beside it.
        mirror: PathBuf,
        /// As for [`Request::Describe`]. A credential in it goes into no file of the mirror.
        source: String,
    },
    /// Pins a base: names a commit of the mirror by its full id.
    Resolve {
        /// The mirror's folder.
        mirror: PathBuf,
        /// A branch, a tag, a full or abbreviated commit id, a task's result by `refs/code-workers/…`; without it
        /// the source's default branch.
        base: Option<String>,
    },
    /// Writes a commit with all its history as a bundle of one ref, [`crate::BASE_REF`], at most
    /// [`crate::limits::MAX_BASE_BUNDLE_BYTES`].
    Bundle {
        /// The mirror that has the commit.
        mirror: PathBuf,
        /// The commit.
        commit: CommitId,
        /// The file to write. Only a success says that it is whole.
        bundle: PathBuf,
    },
    /// Checks a bundle that came back from a sandbox, in an empty repository of its own, and changes nothing.
    Check {
        /// The bundle's file.
        bundle: PathBuf,
        /// The task whose branch it must hold, alone.
        task: TaskId,
        /// The commit from which the branch must descend.
        base: CommitId,
        /// The mirror that has the base.
        mirror: PathBuf,
    },
    /// Checks a bundle and brings its branch into the mirror as [`crate::mirror_ref_of`] the task, replacing
    /// what an earlier import left there.
    Import {
        /// The bundle's file.
        bundle: PathBuf,
        /// The task whose branch it must hold, alone.
        task: TaskId,
        /// The commit from which the branch must descend.
        base: CommitId,
        /// The mirror that has the base and gets the branch.
        mirror: PathBuf,
    },
    /// Checks a bundle and puts its branch into the user's repository as [`crate::branch_of`] the task. Touches
    /// no work tree, no HEAD and no other ref; the same branch there already is success.
    Apply {
        /// The bundle's file.
        bundle: PathBuf,
        /// The task whose branch it must hold, alone.
        task: TaskId,
        /// The commit from which the branch must descend; the target has to have it.
        base: CommitId,
        /// The user's repository, or any folder in it.
        target: PathBuf,
    },
}

/// The answer to a [`Request`]: its own kind, or why it failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Describe`].
    Described(SourceDescription),
    /// To [`Request::Refresh`].
    Refreshed(Refreshed),
    /// To [`Request::Resolve`].
    Resolved {
        /// The commit that the base names.
        commit: CommitId,
    },
    /// To [`Request::Bundle`].
    Bundled {
        /// The file's bytes.
        size: u64,
    },
    /// To [`Request::Check`].
    Checked(BundleReport),
    /// To [`Request::Import`].
    Imported(Imported),
    /// To [`Request::Apply`].
    Applied(Applied),
    /// To any request.
    Failed(RepositoryError),
}

/// A source that can be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceDescription {
    /// What to register: a local path made absolute, a URL as it was given (with any credential in it).
    pub source: String,
    /// The same without a credential, to be shown.
    pub shown: String,
    /// The branch that HEAD names, without `refs/heads/`; none where HEAD is detached or has no commit yet.
    pub default_branch: Option<String>,
    /// The commit of HEAD; none where HEAD has no commit yet.
    pub head: Option<CommitId>,
}

/// A mirror after a refresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refreshed {
    /// Whether this refresh made the mirror.
    pub created: bool,
    /// As in [`SourceDescription`].
    pub default_branch: Option<String>,
    /// As in [`SourceDescription`].
    pub head: Option<CommitId>,
}

/// What a bundle that passed all checks holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleReport {
    /// The commit of the task's branch.
    pub tip: CommitId,
    /// How many commits it has above the base.
    pub commits: u64,
    /// How many files differ between base and tip; a renamed file counts twice.
    pub files: u64,
    /// Lines added in text files.
    pub insertions: u64,
    /// Lines removed in text files.
    pub deletions: u64,
}

/// A result that stands in the mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Its ref, [`crate::mirror_ref_of`] the task.
    pub ref_name: String,
    /// What the bundle held.
    pub report: BundleReport,
}

/// A result that stands in the user's repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The branch, [`crate::branch_of`] the task.
    pub branch: String,
    /// False where the branch was there already, with the same commit.
    pub created: bool,
    /// What the bundle held.
    pub report: BundleReport,
}
