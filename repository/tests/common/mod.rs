//! Real repositories, made by real git, in a temporary folder.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "only tests use this")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use repository::{CommitId, Helper, TaskId, branch_ref_of};
use tempfile::TempDir;

pub(crate) fn helper() -> Helper {
    Helper::new(env!("CARGO_BIN_EXE_code-workers-repository"))
}

pub(crate) fn task(id: &str) -> TaskId {
    id.parse().unwrap()
}

/// Runs git as its user would, and gives back what it prints.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    git_fed(folder, arguments, b"")
}

pub(crate) fn git_fed(folder: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("git")
        .current_dir(folder)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([("GIT_AUTHOR_NAME", "Author"), ("GIT_AUTHOR_EMAIL", "author@example.com")])
        .envs([("GIT_COMMITTER_NAME", "Author"), ("GIT_COMMITTER_EMAIL", "author@example.com")])
        .envs([("GIT_AUTHOR_DATE", "1700000000 +0000"), ("GIT_COMMITTER_DATE", "1700000000 +0000")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {arguments:?} in {}", folder.display());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A temporary folder with a source repository in it, and room for a mirror.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) source: PathBuf,
    pub(crate) mirror: PathBuf,
}

impl Place {
    /// The source has one commit on `main` with the files `a` and `sub/b`.
    pub(crate) fn new() -> Self {
        Self::with_format("sha1")
    }

    pub(crate) fn with_format(object_format: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let source = folder.path().join("source");
        fs::create_dir(&source).unwrap();
        git(&source, &["init", "-q", "-b", "main", "--object-format", object_format]);
        let place = Self { mirror: folder.path().join("mirrors/project.git"), source, folder };
        place.commit(&place.source, "a", "one\n");
        place.commit(&place.source, "sub/b", "two\n");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn source(&self) -> &str {
        self.source.to_str().unwrap()
    }

    /// Writes one file, commits, and gives back the commit.
    pub(crate) fn commit(&self, repository: &Path, file: &str, content: &str) -> CommitId {
        let path = repository.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        git(repository, &["add", "-A"]);
        git(repository, &["commit", "-q", "-m", file]);
        head(repository)
    }

    /// The mirror, refreshed, and the source's commit in it.
    pub(crate) async fn mirrored(&self) -> CommitId {
        helper().refresh(&self.mirror, self.source()).await.unwrap().head.unwrap()
    }

    /// A clone such as a sandbox has, on the task's branch.
    pub(crate) fn sandbox(&self, task: &TaskId) -> PathBuf {
        let clone = self.path(&format!("sandbox-{task}"));
        git(self.folder.path(), &["clone", "-q", self.source(), clone.to_str().unwrap()]);
        git(&clone, &["checkout", "-q", "-b", "work"]);
        git(&clone, &["symbolic-ref", "HEAD", &branch_ref_of(task)]);
        git(&clone, &["update-ref", "HEAD", "work"]);
        clone
    }

    /// The bundle of `refs`, in git's own way.
    pub(crate) fn bundle(&self, repository: &Path, refs: &[&str]) -> PathBuf {
        let bundle = self.path("result.bundle");
        let mut arguments = vec!["bundle", "create", "-q", bundle.to_str().unwrap()];
        arguments.extend(refs);
        git(repository, &arguments);
        bundle
    }

    /// The bundle of one task's branch above `base`, after one commit that changes `a` and adds `new`.
    pub(crate) fn worked(&self, task: &TaskId, base: &CommitId) -> PathBuf {
        let clone = self.sandbox(task);
        fs::write(clone.join("new"), "1\n2\n3\n").unwrap();
        self.commit(&clone, "a", "changed\n");
        self.bundle(&clone, &[&format!("{base}..{}", branch_ref_of(task))])
    }
}

pub(crate) fn head(repository: &Path) -> CommitId {
    git(repository, &["rev-parse", "HEAD"]).parse().unwrap()
}
