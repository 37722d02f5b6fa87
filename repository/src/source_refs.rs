//! What a source offers, as `git ls-remote --symref` lists it.

use std::collections::BTreeMap;

use crate::git::Git;
use crate::source::Source;
use crate::{Code, CommitId, RepositoryError};

/// A source's refs; at least one branch or tag, or a HEAD with a commit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SourceRefs {
    /// The ref that HEAD names; none where it is detached or has no commit.
    pub(crate) head_ref: Option<String>,
    /// The commit of HEAD.
    pub(crate) head: Option<CommitId>,
    /// Branches and tags by full name, with the object they name (for a tag perhaps no commit).
    pub(crate) refs: BTreeMap<String, CommitId>,
}

impl SourceRefs {
    /// Asks the source.
    pub(crate) fn of(source: &Source, git: &Git) -> Result<Self, RepositoryError> {
        let listing = git
            .command()
            .args(&[
                "ls-remote",
                "--quiet",
                "--symref",
                "--",
                &argument_of(source),
                "HEAD",
                "refs/heads/*",
                "refs/tags/*",
            ])
            .require(&format!("reading {}", source.shown()))?;
        parse(&String::from_utf8_lossy(&listing)).ok_or_else(|| {
            RepositoryError::new(
                Code::SourceEmpty,
                format!("the repository {} has no commit", source.shown()),
                "make a first commit in it",
            )
        })
    }

    /// The branch that HEAD names, without `refs/heads/`.
    pub(crate) fn default_branch(&self) -> Option<String> {
        self.head_ref.as_deref().and_then(|name| name.strip_prefix("refs/heads/")).map(str::to_owned)
    }

    /// git's name for the source's hash.
    pub(crate) fn object_format(&self) -> &'static str {
        self.refs.values().chain(&self.head).next().map_or("sha1", CommitId::object_format)
    }
}

/// The source as git's argument. A path is not lossy here: it came as text.
pub(crate) fn argument_of(source: &Source) -> String {
    source.shown()
}

/// None where there is no commit at all.
fn parse(listing: &str) -> Option<SourceRefs> {
    let mut found = SourceRefs { head_ref: None, head: None, refs: BTreeMap::new() };
    for line in listing.lines() {
        let Some((value, name)) = line.split_once('\t') else { continue };
        if let Some(target) = value.strip_prefix("ref: ") {
            if name == "HEAD" {
                found.head_ref = Some(target.to_owned());
            }
        } else if let Ok(object) = value.parse::<CommitId>() {
            if name == "HEAD" {
                found.head = Some(object);
            } else if (name.starts_with("refs/heads/") || name.starts_with("refs/tags/"))
                && !name.ends_with("^{}")
            {
                found.refs.insert(name.to_owned(), object);
            }
        }
    }
    (found.head.is_some() || !found.refs.is_empty()).then_some(found)
}
