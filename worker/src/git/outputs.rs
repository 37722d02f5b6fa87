//! What goes out: a patch, a bundle of one ref, and the size of the change.

use protocol::{report::DiffStat, task::Artifact};

use super::{command::GitError, take::Taken};
use crate::artifacts::Store;

/// What a branch is sent as.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Its size.
    pub diff: DiffStat,
    /// `patch` and `bundle`, those that could be made.
    pub artifacts: Vec<Artifact>,
    /// Why one could not.
    pub notes: Vec<String>,
}

/// Makes the patch and the bundle of a result; nothing, where nothing was changed.
pub async fn outputs(taken: &Taken<'_>, base: &str, branch: &str, store: &Store) -> Outputs {
    let mut made = Outputs::default();
    let Some(head) = &taken.head else { return made };
    let git = &taken.git;
    match git.answer(&["diff", "--no-ext-diff", "--no-textconv", "--shortstat", base, head]).await {
        Ok(line) => made.diff = diff_stat(&line),
        Err(error) => made.notes.push(error.to_string()),
    }
    let plain = ["--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/"];
    let patch = [&["diff", "--binary", "--full-index"], &plain[..], &[base, head]].concat();
    let (reference, without) = (format!("refs/heads/{branch}"), format!("^{base}"));
    let bundle = ["bundle", "create", "--quiet", "-", &reference, &without];
    for (name, args) in [("patch", &patch[..]), ("bundle", &bundle[..])] {
        let saved: Result<Artifact, GitError> =
            git.stream(args, async |out| store.save(name, out).await).await;
        match saved {
            Ok(artifact) => made.artifacts.push(artifact),
            Err(error) => {
                store.discard(name).await;
                made.notes.push(format!("no {name}: {error}"));
            }
        }
    }
    made
}

/// A line of `git diff --shortstat`: ` 2 files changed, 3 insertions(+), 1 deletion(-)`.
fn diff_stat(line: &str) -> DiffStat {
    let mut stat = DiffStat::default();
    for part in line.split(',') {
        let mut words = part.split_whitespace();
        let count = words.next().and_then(|count| count.parse().ok()).unwrap_or(0);
        match words.next() {
            Some(word) if word.starts_with("file") => stat.files = count,
            Some(word) if word.starts_with("insertion") => stat.insertions = count,
            Some(word) if word.starts_with("deletion") => stat.deletions = count,
            _ => {}
        }
    }
    stat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form_of_the_short_statistics() {
        let all = DiffStat { files: 2, insertions: 3, deletions: 1 };
        assert_eq!(diff_stat(" 2 files changed, 3 insertions(+), 1 deletion(-)"), all);
        let one = DiffStat { files: 1, insertions: 0, deletions: 4 };
        assert_eq!(diff_stat(" 1 file changed, 4 deletions(-)"), one);
        assert_eq!(diff_stat(""), DiffStat::default());
    }
}
