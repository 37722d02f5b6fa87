//! An empty repository in which a hostile bundle is unpacked and looked at, before anything else sees it.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::bundle_header::{BundleHeader, malformed};
use crate::failure;
use crate::git::{Git, Invocation};
use crate::limits::MAX_BUNDLE_BYTES;
use crate::{Code, CommitId, RepositoryError, TaskId, branch_ref_of};

/// Holds the checked branch of one bundle, and nothing else but objects.
pub(crate) struct CleanRepository {
    pub(crate) git: Git,
    pub(crate) path: PathBuf,
    pub(crate) base: CommitId,
    pub(crate) tip: CommitId,
    /// The task's branch, the one ref that may be fetched from here.
    pub(crate) branch_ref: String,
}

/// A bundle and what it has to be.
pub(crate) struct Expected<'a> {
    pub(crate) bundle: &'a Path,
    pub(crate) task: &'a TaskId,
    pub(crate) base: &'a CommitId,
    /// The `objects` folder of the repository that has the base. Only objects are read from there.
    pub(crate) objects: &'a Path,
}

impl CleanRepository {
    /// A fetch from here, of these refs and nothing beside them, by a git that stands in the repository that gets them.
    pub(crate) fn fetch_into(&self, git: Invocation, refs: &str) -> Invocation {
        git.args(&["fetch", "--quiet", "--no-tags", "--no-prune", "--no-recurse-submodules"])
            .args(&["--no-auto-maintenance", "--no-write-fetch-head", "--"])
            .arg(&self.path)
            .arg(refs)
    }

    /// Unpacks the bundle below `scratch`, with these checks, in this order:
    /// size; header (one ref, the task's branch; no capability that leaves objects out); the base is there;
    /// git's strict fsck of every object that the bundle brings, and that everything they name is there (so no
    /// tree entry `.git`, `.`, `..`, with a slash, without a name or twice in a tree, in any spelling that
    /// another file system takes for `.git`, no NUL in a commit's header, no malicious `.gitmodules`); the tip is
    /// a commit; the base is its ancestor.
    pub(crate) fn unpack(expected: &Expected<'_>, scratch: &Path) -> Result<Self, RepositoryError> {
        let mut file = open(expected.bundle)?;
        let header = BundleHeader::read(&mut file)?;
        let branch_ref = branch_ref_of(expected.task);
        let tip = only_tip(header, &branch_ref, expected.base)?;
        let clean = Self {
            git: Git::isolated(scratch),
            path: scratch.join("clean.git"),
            base: expected.base.clone(),
            tip,
            branch_ref,
        };
        clean.create(expected.objects)?;
        clean.require_base()?;
        clean.index(file)?;
        clean.adopt_tip()?;
        clean.require_descent()?;
        Ok(clean)
    }

    fn create(&self, objects: &Path) -> Result<(), RepositoryError> {
        self.git
            .command()
            .args(&["init", "--quiet", "--bare", "--template=", "--initial-branch=main"])
            .args(&["--object-format", self.base.object_format(), "--"])
            .arg(&self.path)
            .require("making a clean repository")?;
        let alternates = format!("{}\n", objects.display());
        fs::write(self.path.join("objects/info/alternates"), alternates)
            .map_err(|error| RepositoryError::io("cannot write to the clean repository", &error))?;
        // The owner's own clone may end at a depth; it then still has the base.
        let boundary = objects.with_file_name("shallow");
        if boundary.is_file() {
            fs::copy(&boundary, self.path.join("shallow"))
                .map_err(|error| RepositoryError::io("cannot write to the clean repository", &error))?;
        }
        Ok(())
    }

    fn require_base(&self) -> Result<(), RepositoryError> {
        // A ref, so that git knows the base's history to be there.
        let made = self
            .git
            .in_repository(&self.path)
            .args(&["update-ref", "refs/heads/base", self.base.as_str()])
            .run()?;
        if made.status.success() { Ok(()) } else { Err(base_missing(&self.base)) }
    }

    /// `--strict` makes every warning of fsck an error, and wants every named object to be there.
    fn index(&self, pack: File) -> Result<(), RepositoryError> {
        let limit = format!("--max-input-size={MAX_BUNDLE_BYTES}");
        let done = self
            .git
            .in_repository(&self.path)
            .args(&["index-pack", "--stdin", "--fix-thin", "--strict", "--threads=2", &limit])
            .input_file(pack)
            .run()?;
        if done.status.success() {
            return Ok(());
        }
        let told = &done.complaints;
        if [
            "early EOF",
            "pack signature mismatch",
            "pack is corrupted",
            "inflate returned",
            "unsupported pack version",
            "pack has",
        ]
        .iter()
        .any(|sign| told.contains(sign))
        {
            return Err(malformed(&failure::quoted(told)));
        }
        Err(RepositoryError::new(
            Code::BundleRefused,
            format!("git refuses what the bundle holds: {}", failure::quoted(told)),
            "look at the task's log for what made this; nothing of it has entered a repository",
        ))
    }

    fn adopt_tip(&self) -> Result<(), RepositoryError> {
        let made = self
            .git
            .in_repository(&self.path)
            .args(&["update-ref", &self.branch_ref, self.tip.as_str()])
            .run()?;
        if made.status.success() {
            Ok(())
        } else {
            Err(malformed("its branch names no commit that is there"))
        }
    }

    fn require_descent(&self) -> Result<(), RepositoryError> {
        let asked = self
            .git
            .in_repository(&self.path)
            .args(&["merge-base", "--is-ancestor", self.base.as_str(), self.tip.as_str()])
            .run()?;
        match asked.status.code() {
            Some(0) => Ok(()),
            Some(1) => Err(RepositoryError::new(
                Code::BundleUnrelated,
                format!("the bundle's branch does not descend from the task's base {}", self.base),
                "the agent has rewritten history; take its work from the patch",
            )),
            _ => Err(failure::of_git("comparing the branch with its base", &asked.complaints, None)),
        }
    }
}

/// The bundle's file came from a sandbox too: it may be a link, a FIFO or anything.
fn open(bundle: &Path) -> Result<File, RepositoryError> {
    let missing = |why: String| {
        RepositoryError::new(
            Code::BundleMissing,
            format!("the bundle {} cannot be opened: {why}", bundle.display()),
            "check that the task has ended and that its result names a bundle",
        )
    };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(bundle)
        .map_err(|error| missing(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| missing(error.to_string()))?;
    if !metadata.is_file() {
        return Err(missing("it is not a plain file".to_owned()));
    }
    if metadata.len() > MAX_BUNDLE_BYTES {
        return Err(too_large(&format!(
            "it has {} bytes, and {MAX_BUNDLE_BYTES} are allowed",
            metadata.len()
        )));
    }
    Ok(file)
}

fn only_tip(header: BundleHeader, branch_ref: &str, base: &CommitId) -> Result<CommitId, RepositoryError> {
    let same_hash = |id: &CommitId| id.object_format() == base.object_format();
    if !header.prerequisites.iter().chain(header.refs.iter().map(|(id, _)| id)).all(same_hash) {
        return Err(malformed("it uses another hash than the base"));
    }
    let count = header.refs.len();
    let mut refs = header.refs.into_iter();
    match (refs.next(), count) {
        (Some((tip, name)), 1) if name == branch_ref => Ok(tip),
        _ => Err(RepositoryError::new(
            Code::BundleRefs,
            format!("the bundle holds {count} refs, but only {branch_ref} may come back"),
            "take the work from the task's patch",
        )),
    }
}

/// A bundle over a limit.
pub(crate) fn too_large(why: &str) -> RepositoryError {
    RepositoryError::new(
        Code::BundleTooLarge,
        format!("the bundle is too large: {why}"),
        "take the work from the task's patch, or let the agent do it in smaller tasks",
    )
}

/// The repository lacks the commit that everything starts from.
pub(crate) fn base_missing(base: &CommitId) -> RepositoryError {
    RepositoryError::new(
        Code::BaseMissing,
        format!("the repository does not have the task's base commit {base}"),
        "bring it there first, for example with `git fetch` from where the task's repository was registered",
    )
}
