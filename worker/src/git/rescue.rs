//! A repository of our own, for when the agent's is gone or broken.

use super::command::{Git, GitError, option};
use crate::places::Places;
use std::ffi::OsStr;

/// Where it is, in the work tree: on disk, like the tree itself.
pub(super) const FOLDER: &str = ".code-workers-result.git";

/// A bare repository that shares the mirror's objects. Made by the agent's user, as everything there.
pub(super) async fn repository<'a>(places: &'a Places, base: &str) -> Result<Git<'a>, GitError> {
    let git = Git::in_work_tree(places);
    let folder = places.work.join(FOLDER);
    let template = option("--template=", &places.scratch.join("template"));
    let start = ["clone", "--quiet", "--shared", "--bare"].map(OsStr::new);
    git.answer(&[&start[..], &[&template, places.mirror.as_os_str(), folder.as_os_str()]].concat()).await?;
    let git = git.with_git_dir(folder);
    git.answer(&["config", "core.bare", "false"]).await?;
    git.answer(&["cat-file", "-e", &format!("{base}^{{commit}}")]).await?;
    Ok(git)
}
