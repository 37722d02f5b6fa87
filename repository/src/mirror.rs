//! Mirrors: a bare copy of a source, that sandboxes read while it is refreshed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::failure;
use crate::git::Git;
use crate::leftovers;
use crate::lock::MirrorLock;
use crate::source::Source;
use crate::source_refs::{SourceRefs, argument_of};
use crate::{Code, CommitId, Refreshed, RepositoryError, SourceDescription};

/// Answers [`crate::Request::Describe`].
pub(crate) fn describe(source: &str, scratch: &Path) -> Result<SourceDescription, RepositoryError> {
    let parsed = Source::parse(source)?;
    parsed.require_present()?;
    let git = Git::for_source(&parsed, scratch)?;
    let refs = SourceRefs::of(&parsed, &git)?;
    if let Source::Local(path) = &parsed {
        refuse_shallow(path, &git)?;
    }
    let registered = if matches!(parsed, Source::Local(_)) { parsed.shown() } else { source.to_owned() };
    Ok(SourceDescription {
        source: registered,
        shown: parsed.shown(),
        default_branch: refs.default_branch(),
        head: refs.head,
    })
}

/// Answers [`crate::Request::Refresh`].
pub(crate) fn refresh(mirror: &Path, source: &str, scratch: &Path) -> Result<Refreshed, RepositoryError> {
    let source = Source::parse(source)?;
    source.require_present()?;
    let git = Git::for_source(&source, scratch)?;
    let _turn = MirrorLock::take(mirror)?;
    let offered = SourceRefs::of(&source, &git)?;
    let created = !exists(mirror);
    if created {
        create(mirror, offered.object_format(), &git)?;
    } else {
        leftovers::clear(mirror);
    }
    make_way(mirror, &offered, &git)?;
    let mut fetch = git.in_repository(mirror).args(&[
        "fetch",
        "--quiet",
        "--force",
        "--no-tags",
        "--no-prune",
        "--no-recurse-submodules",
        "--no-auto-maintenance",
        "--no-write-fetch-head",
        "--",
        &argument_of(&source),
        "+refs/heads/*:refs/heads/*",
        "+refs/tags/*:refs/tags/*",
    ]);
    if offered.head_ref.is_none() && offered.head.is_some() {
        // A detached HEAD may be on no branch.
        fetch = fetch.arg("HEAD");
    }
    let doing = format!("fetching {}", source.shown());
    let fetched = fetch.run()?;
    if fetched.status.success() && fetched.complaints.contains("shallow") {
        // git leaves such refs out with a warning, and calls it a success.
        return Err(failure::of_git(&doing, &fetched.complaints, None));
    }
    fetched.require(&doing)?;
    follow_head(mirror, &offered, &git)?;
    Ok(Refreshed { created, default_branch: offered.default_branch(), head: offered.head })
}

/// Whether there is a mirror at `mirror`.
pub(crate) fn exists(mirror: &Path) -> bool {
    mirror.join("HEAD").is_file() && mirror.join("objects").is_dir()
}

/// An error where there is no mirror.
pub(crate) fn require(mirror: &Path) -> Result<(), RepositoryError> {
    if exists(mirror) {
        return Ok(());
    }
    Err(RepositoryError::new(
        Code::MirrorMissing,
        format!("there is no mirror at {}", mirror.display()),
        "refresh the repository first; if it was removed, register it again",
    ))
}

/// Readable for every user, since inside a sandbox another one reads it; without a template there is no hook. Made
/// beside its place and moved there whole, so that a mirror is never half made.
fn create(mirror: &Path, object_format: &str, git: &Git) -> Result<(), RepositoryError> {
    let doing = format!("making the mirror {}", mirror.display());
    let unfinished = mirror.with_extension("unfinished");
    // It may be left of an earlier try; that it mostly is not there is no fault.
    let _ = fs::remove_dir_all(&unfinished);
    git.command()
        .args(&["init", "--quiet", "--bare", "--shared=0644", "--template=", "--initial-branch=main"])
        .args(&["--object-format", object_format, "--"])
        .arg(&unfinished)
        .require(&doing)?;
    git.in_repository(&unfinished).args(&["config", "gc.auto", "0"]).require(&doing)?;
    fs::rename(&unfinished, mirror).map_err(|error| RepositoryError::io(&doing, &error))
}

/// Nothing is pruned, but a branch `a` that is gone in the source would keep its new branch `a/b` out.
fn make_way(mirror: &Path, offered: &SourceRefs, git: &Git) -> Result<(), RepositoryError> {
    let doing = "looking at the mirror's refs";
    let format = "--format=%(refname)";
    let listing = git
        .in_repository(mirror)
        .args(&["for-each-ref", format, "refs/heads/", "refs/tags/"])
        .require(doing)?;
    let listing = String::from_utf8_lossy(&listing);
    let gone: String = listing
        .lines()
        .filter(|known| in_the_way(known, &offered.refs))
        .map(|name| format!("delete {name}\n"))
        .collect();
    if !gone.is_empty() {
        git.in_repository(mirror)
            .args(&["update-ref", "--stdin"])
            .input(&gone)
            .require("removing a ref that is in the way")?;
    }
    Ok(())
}

/// Whether the ref `known`, which the source no longer has, is a folder of one of the source's refs, or the other
/// way round: git cannot have both.
fn in_the_way(known: &str, offered: &BTreeMap<String, CommitId>) -> bool {
    if offered.contains_key(known) {
        return false;
    }
    let folder = format!("{known}/");
    let below = offered.range(folder.clone()..).next().is_some_and(|(name, _)| name.starts_with(&folder));
    let above = known.match_indices('/').any(|(at, _)| offered.contains_key(&known[..at]));
    below || above
}

fn follow_head(mirror: &Path, offered: &SourceRefs, git: &Git) -> Result<(), RepositoryError> {
    let doing = "setting the mirror's HEAD";
    match (&offered.head_ref, &offered.head) {
        (Some(name), _) => git.in_repository(mirror).args(&["symbolic-ref", "HEAD", name]).require(doing)?,
        (None, Some(commit)) => git
            .in_repository(mirror)
            .args(&["update-ref", "--no-deref", "HEAD", commit.as_str()])
            .require(doing)?,
        (None, None) => return Ok(()),
    };
    Ok(())
}

/// A shallow source would make a mirror that no sandbox can clone.
fn refuse_shallow(path: &Path, git: &Git) -> Result<(), RepositoryError> {
    let answer = git
        .in_folder(path)
        .args(&["rev-parse", "--is-shallow-repository"])
        .require("looking at the source")?;
    if answer.starts_with(b"true") {
        return Err(failure::of_git("reading the source", "fatal: source repository is shallow", None));
    }
    Ok(())
}
