//! A repository of our own, for when the agent's is gone or broken.

use super::{base::Base, checkout::CheckoutError, command::Git};
use crate::places::Places;

/// A bare repository that has the base, in memory: the disk may be full. From a mirror it shares the objects; where
/// there is none, the base comes through the door once more.
pub(super) async fn repository<'a>(
    places: &'a Places,
    from: Base<'_>,
    base: &str,
) -> Result<Git<'a>, CheckoutError> {
    let git = Git::in_work_tree(places);
    let folder = places.result().join("repository.git");
    from.bring(&git, base, &folder, true).await?;
    let git = git.with_git_dir(folder);
    git.answer(&["config", "core.bare", "false"]).await?;
    git.answer(&["cat-file", "-e", &format!("{base}^{{commit}}")]).await?;
    Ok(git)
}
