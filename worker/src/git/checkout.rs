//! Before the agent: a work tree at the pinned base, on the task's branch.

use std::{fs, io, path::Path};

use protocol::{Code, client::ClientError};

use super::{
    base::Base,
    command::{Git, GitError},
};
use crate::places::Places;

/// Why there is no work tree.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The mirror lacks the base.
    #[error("the repository has no commit {0}: register it again, or name another base")]
    NoSuchBase(String),
    /// The door that it comes through.
    #[error("the base does not come through the door: {0}")]
    Door(#[from] ClientError),
    /// What came through it.
    #[error("what came through the door is no bundle of the base: {0}")]
    NoBundle(String),
    /// git failed otherwise.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Makes the scratch folder with git's configuration, which the agent can read and not change.
///
/// # Errors
/// What the file system says; that something is there already, too.
pub fn prepare(places: &Places) -> io::Result<()> {
    fs::create_dir(&places.scratch)?;
    fs::write(places.git_config(), configuration(places))?;
    let template = places.scratch.join("template/info");
    fs::create_dir_all(&template)?;
    fs::write(template.join("exclude"), format!("/{}/\n", super::ARTIFACTS))
}

/// git's configuration: who commits, and that the mirror may be read though it is another user's.
#[must_use]
pub fn configuration(places: &Places) -> String {
    let ((name, mail), mirror) = (super::IDENTITY, places.mirror.display());
    format!(
        "[safe]\n\tdirectory = {mirror}\n[user]\n\tname = {name}\n\temail = {mail}\n[advice]\n\tdetachedHead = false\n[gc]\n\tauto = 0\n"
    )
}

/// Makes the repository, and checks the base out on a new branch.
///
/// # Errors
/// [`CheckoutError`].
pub async fn checkout(
    places: &Places,
    from: Base<'_>,
    base: &str,
    branch: &str,
) -> Result<(), CheckoutError> {
    let git = Git::in_work_tree(places).without_limit();
    match from.bring(&git, base, Path::new("."), false).await {
        Err(CheckoutError::Door(error)) if error.code() == Some(Code::BaseMissing) => {
            return Err(CheckoutError::NoSuchBase(base.to_owned()));
        }
        brought => brought?,
    }
    let Err(error) = git.answer(&["checkout", "--quiet", "--no-track", "-b", branch, base]).await else {
        return Ok(());
    };
    let known = git.succeeds(&["cat-file", "-e", &format!("{base}^{{commit}}")]).await?;
    Err(if known { error.into() } else { CheckoutError::NoSuchBase(base.to_owned()) })
}
