//! A repository of our own, for when the agent's is gone or broken.

use super::command::{Git, GitError, option};
use crate::places::Places;
use std::ffi::OsStr;

/// A bare repository that shares the mirror's objects, in memory: the disk may be full. Made by the agent's user,
/// as everything that has to do with its tree.
pub(super) async fn repository<'a>(places: &'a Places, base: &str) -> Result<Git<'a>, GitError> {
    let git = Git::in_work_tree(places);
    let folder = places.result().join("repository.git");
    let template = option("--template=", &places.scratch.join("template"));
    let start = ["clone", "--quiet", "--shared", "--bare"].map(OsStr::new);
    git.answer(&[&start[..], &[&template, places.mirror.as_os_str(), folder.as_os_str()]].concat()).await?;
    let git = git.with_git_dir(folder);
    git.answer(&["config", "core.bare", "false"]).await?;
    git.answer(&["cat-file", "-e", &format!("{base}^{{commit}}")]).await?;
    Ok(git)
}
