//! From a request to its answer, within this process.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::limits::{MAX_FILE_BYTES, MAX_MEMORY_BYTES};
use crate::{Answer, RepositoryError, Request, apply, base_bundle, bundle, mirror, resolve};

/// Does what `request` asks, and answers; waits as long as git takes. Sets limits on the whole process, which
/// every git below inherits, so it is meant to be called once in a process of its own: [`crate::Helper`] is for
/// everyone else.
#[must_use]
pub fn execute(request: &Request) -> Answer {
    try_execute(request).unwrap_or_else(Answer::Failed)
}

fn try_execute(request: &Request) -> Result<Answer, RepositoryError> {
    let scratch = tempfile::Builder::new()
        .prefix("code-workers-repository-")
        .tempdir()
        .map_err(|error| RepositoryError::io("cannot make a temporary folder", &error))?;
    // Below a folder that only we can open, so the mode of what is made in it does not matter.
    let folder = scratch.path().join("scratch");
    DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(|error| RepositoryError::io("cannot make a temporary folder", &error))?;
    carry_out(request, &folder)
}

fn carry_out(request: &Request, scratch: &Path) -> Result<Answer, RepositoryError> {
    Ok(match request {
        Request::Describe { source } => Answer::Described(mirror::describe(source, scratch)?),
        Request::Refresh { mirror, source } => Answer::Refreshed(mirror::refresh(mirror, source, scratch)?),
        Request::Resolve { mirror, base } => {
            Answer::Resolved { commit: resolve::resolve(mirror, base.as_deref(), scratch)? }
        }
        Request::Bundle { mirror, commit, bundle } => {
            Answer::Bundled { size: base_bundle::write(mirror, commit, bundle, scratch)? }
        }
        Request::Check { bundle, task, base, mirror } => {
            confine()?;
            Answer::Checked(bundle::check(bundle, task, base, mirror, scratch)?)
        }
        Request::Import { bundle, task, base, mirror } => {
            confine()?;
            Answer::Imported(bundle::import(bundle, task, base, mirror, scratch)?)
        }
        Request::Apply { bundle, task, base, target } => {
            confine()?;
            Answer::Applied(apply::apply(bundle, task, base, target, scratch)?)
        }
    })
}

/// A small bundle can unfold into large objects: bounds what git may take for them.
fn confine() -> Result<(), RepositoryError> {
    for (resource, most) in
        [(Resource::Data, MAX_MEMORY_BYTES), (Resource::Fsize, MAX_FILE_BYTES), (Resource::Core, 0)]
    {
        let present = rustix::process::getrlimit(resource);
        let most = present.maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(|error| RepositoryError::io("cannot limit git", &error.into()))?;
    }
    Ok(())
}
