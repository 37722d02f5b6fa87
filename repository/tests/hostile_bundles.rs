//! Bundles as an agent might make them, by git's own plumbing: nothing of them enters a repository.

#![allow(clippy::unwrap_used, reason = "tests' own helpers too")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{Place, git, git_fed, helper, task};
use repository::{Code, CommitId, RepositoryError, TaskId, branch_ref_of, limits};

/// A place, a task, its base, and a sandbox's clone on the task's branch.
struct Attack {
    place: Place,
    task: TaskId,
    base: CommitId,
    clone: PathBuf,
}

impl Attack {
    async fn new() -> Self {
        let place = Place::new();
        let base = place.mirrored().await;
        let task = task("task-1");
        let clone = place.sandbox(&task);
        Self { place, task, base, clone }
    }

    fn range(&self) -> String {
        format!("{}..{}", self.base, branch_ref_of(&self.task))
    }

    /// Checks, imports and applies; the first two have to agree, and on failure nothing may have come in.
    async fn attempt(&self, bundle: &Path) -> Result<(), RepositoryError> {
        let refs = |repository: &Path| git(repository, &["for-each-ref"]);
        let before = (refs(&self.place.mirror), refs(&self.place.source));
        let (helper, place) = (helper(), &self.place);
        let checked = helper.check(bundle, &self.task, &self.base, &place.mirror).await;
        let imported = helper.import(bundle, &self.task, &self.base, &place.mirror).await;
        let applied = helper.apply(bundle, &self.task, &self.base, &place.source).await;
        if let Err(refused) = checked {
            assert_eq!(imported.unwrap_err().code, refused.code);
            assert_eq!(applied.unwrap_err().code, refused.code);
            assert_eq!((refs(&place.mirror), refs(&place.source)), before);
            return Err(refused);
        }
        imported.and(applied).map(|_| ())
    }

    /// Commits a tree that git itself would not make, and attempts its bundle.
    async fn attempt_tree(&self, entries: &[(&str, &[u8], &str)]) -> Result<(), RepositoryError> {
        let tree = self.tree(entries);
        self.commit_tree(&tree);
        self.attempt(&self.place.bundle(&self.clone, &[&self.range()])).await
    }

    fn commit_tree(&self, tree: &str) {
        let commit = git(&self.clone, &["commit-tree", "-p", self.base.as_str(), "-m", "hostile", tree]);
        git(&self.clone, &["update-ref", &branch_ref_of(&self.task), &commit]);
    }

    fn blob(&self, content: &[u8]) -> String {
        git_fed(&self.clone, &["hash-object", "-w", "--stdin"], content)
    }

    fn tree(&self, entries: &[(&str, &[u8], &str)]) -> String {
        let mut raw = Vec::new();
        for (mode, name, object) in entries {
            raw.extend_from_slice(mode.as_bytes());
            raw.push(b' ');
            raw.extend_from_slice(name);
            raw.push(0);
            raw.extend(
                (0..object.len()).step_by(2).map(|at| u8::from_str_radix(&object[at..at + 2], 16).unwrap()),
            );
        }
        git_fed(&self.clone, &["hash-object", "-t", "tree", "-w", "--stdin", "--literally"], &raw)
    }
}

#[tokio::test]
async fn only_the_tasks_own_branch_may_be_in_it() {
    let attack = Attack::new().await;
    attack.place.commit(&attack.clone, "a", "changed\n");
    git(&attack.clone, &["branch", "-f", "main", "HEAD"]);
    let other = format!("{}..refs/heads/main", attack.base);
    for refs in [vec![attack.range(), other.clone()], vec![other]] {
        let refs: Vec<&str> = refs.iter().map(String::as_str).collect();
        let bundle = attack.place.bundle(&attack.clone, &refs);
        assert_eq!(attack.attempt(&bundle).await.unwrap_err().code, Code::BundleRefs);
    }
    // Another task's branch is another ref.
    let bundle = attack.place.bundle(&attack.clone, &[&attack.range()]);
    let refused =
        helper().check(&bundle, &task("task-2"), &attack.base, &attack.place.mirror).await.unwrap_err();
    assert_eq!(refused.code, Code::BundleRefs);
    attack.attempt(&bundle).await.unwrap();
}

#[tokio::test]
async fn it_has_to_stand_on_the_base() {
    let attack = Attack::new().await;
    let nowhere: CommitId = "1234567890".repeat(4).parse().unwrap();
    let first = attack.place.commit(&attack.clone, "a", "first\n");
    attack.place.commit(&attack.clone, "a", "second\n");
    let branch = branch_ref_of(&attack.task);

    let bundle = attack.place.bundle(&attack.clone, &[&attack.range()]);
    let refused = helper().check(&bundle, &attack.task, &nowhere, &attack.place.mirror).await.unwrap_err();
    assert_eq!(refused.code, Code::BaseMissing);

    // Its first commit is left out, and the mirror does not have it.
    let bundle = attack.place.bundle(&attack.clone, &[&format!("{first}..{branch}")]);
    assert_eq!(attack.attempt(&bundle).await.unwrap_err().code, Code::BundleRefused);

    let tree = git(&attack.clone, &["rev-parse", "HEAD^{tree}"]);
    let orphan = git(&attack.clone, &["commit-tree", "-m", "orphan", &tree]);
    git(&attack.clone, &["update-ref", &branch, &orphan]);
    let bundle = attack.place.bundle(&attack.clone, &[&branch]);
    assert_eq!(attack.attempt(&bundle).await.unwrap_err().code, Code::BundleUnrelated);
}

#[tokio::test]
async fn names_that_would_leave_the_work_tree_are_refused() {
    let attack = Attack::new().await;
    let blob = attack.blob(b"[core]\n\tfsmonitor = touch /tmp/owned\n");
    let tree = attack.tree(&[("100644", b"config", &blob)]);
    let names: [&[u8]; 7] = [b".git", b".GIT", b"git~1", b".", b"..", b"a/b", b".g\xe2\x80\x8cit"];
    for name in names {
        for (mode, object) in [("40000", &tree), ("100644", &blob)] {
            let refused = attack.attempt_tree(&[(mode, name, object)]).await.unwrap_err();
            assert_eq!(refused.code, Code::BundleRefused, "{name:?}");
        }
    }
    let twice = [("100644", b"same".as_slice(), blob.as_str()), ("100644", b"same", &blob)];
    assert_eq!(attack.attempt_tree(&twice).await.unwrap_err().code, Code::BundleRefused);
}

#[tokio::test]
async fn a_submodule_that_names_a_command_is_refused() {
    let attack = Attack::new().await;
    let modules = attack.blob(b"[submodule \"x\"]\n\tpath = x\n\turl = --upload-pack=touch\n");
    let refused = attack.attempt_tree(&[("100644", b".gitmodules", &modules)]).await.unwrap_err();
    assert_eq!(refused.code, Code::BundleRefused);
}

#[tokio::test]
async fn a_link_out_of_the_tree_is_data() {
    let attack = Attack::new().await;
    let target = attack.blob(b"/etc/passwd");
    attack.attempt_tree(&[("120000", b"link", &target)]).await.unwrap();
    let shown = git(&attack.place.source, &["show", &format!("{}:link", branch_ref_of(&attack.task))]);
    assert_eq!(shown, "/etc/passwd");
    assert!(!attack.place.source.join("link").exists());
}

#[tokio::test]
async fn broken_files_are_malformed() {
    let attack = Attack::new().await;
    attack.place.commit(&attack.clone, "a", &"changed\n".repeat(10_000));
    let whole = fs::read(attack.place.bundle(&attack.clone, &[&attack.range()])).unwrap();
    let header = whole.windows(2).position(|pair| pair == b"\n\n").unwrap() + 2;
    let mut broken: Vec<Vec<u8>> = [0, 5, header - 1, header, header + 6, header + 40, whole.len() - 1]
        .map(|end| whole[..end].to_vec())
        .into();
    broken.push(vec![0; 4096]);
    broken.push([&whole[..16], &[0; 64], &whole[16..]].concat());
    broken.push([&whole[..header], &[0; 64], &whole[header..]].concat());
    let mut flipped = whole.clone();
    flipped[header + 60] ^= 0x55;
    broken.push(flipped);
    broken.push([whole.as_slice(), &[0; 64]].concat());
    broken.push([b"# v3 git bundle\n@filter=blob:none\n".as_slice(), &whole[16..]].concat());
    let file = attack.place.path("broken");
    for (number, bytes) in broken.iter().enumerate() {
        fs::write(&file, bytes).unwrap();
        let refused = attack.attempt(&file).await.unwrap_err();
        assert_eq!(refused.code, Code::BundleMalformed, "{number}: {refused}");
    }
}

#[tokio::test]
async fn what_is_no_plain_file_is_not_opened() {
    let attack = Attack::new().await;
    attack.place.commit(&attack.clone, "a", "changed\n");
    let bundle = attack.place.bundle(&attack.clone, &[&attack.range()]);
    let link = attack.place.path("link");
    symlink(&bundle, &link).unwrap();
    let fifo = attack.place.path("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    for path in [link, fifo, attack.clone.clone(), attack.place.path("nothing")] {
        assert_eq!(attack.attempt(&path).await.unwrap_err().code, Code::BundleMissing, "{}", path.display());
    }
}

#[tokio::test]
async fn the_branch_has_to_be_a_commit() {
    let attack = Attack::new().await;
    attack.place.commit(&attack.clone, "a", "changed\n");
    let whole = fs::read(attack.place.bundle(&attack.clone, &[&attack.range()])).unwrap();
    let tip = git(&attack.clone, &["rev-parse", "HEAD"]);
    let tree = git(&attack.clone, &["rev-parse", "HEAD^{tree}"]);
    let at = whole.windows(40).position(|id| id == tip.as_bytes()).unwrap();
    let file = attack.place.path("tree");
    fs::write(&file, [&whole[..at], tree.as_bytes(), &whole[at + 40..]].concat()).unwrap();
    assert_eq!(attack.attempt(&file).await.unwrap_err().code, Code::BundleMalformed);
}

#[tokio::test]
async fn sizes_are_bounded() {
    let attack = Attack::new().await;
    let file = attack.place.path("large");
    fs::File::create(&file).unwrap().set_len(limits::MAX_BUNDLE_BYTES + 1).unwrap();
    assert_eq!(attack.attempt(&file).await.unwrap_err().code, Code::BundleTooLarge);

    // A few hundred bytes that a checkout would make into 10^10 files.
    let mut object = attack.blob(b"x");
    let mut mode = "100644";
    for _ in 0..10 {
        let names: Vec<[u8; 1]> = (b'0'..=b'9').map(|digit| [digit]).collect();
        let entries: Vec<(&str, &[u8], &str)> =
            names.iter().map(|name| (mode, name.as_slice(), object.as_str())).collect();
        object = attack.tree(&entries);
        mode = "40000";
    }
    attack.commit_tree(&object);
    let bundle = attack.place.bundle(&attack.clone, &[&attack.range()]);
    let refused =
        helper().check(&bundle, &attack.task, &attack.base, &attack.place.mirror).await.unwrap_err();
    assert_eq!(refused.code, Code::BundleTooLarge, "{refused}");

    let mut object = attack.blob(b"x");
    let mut mode = "100644";
    for _ in 0..=limits::MAX_PATH_BYTES / 200 {
        object = attack.tree(&[(mode, &[b'n'; 200], &object)]);
        mode = "40000";
    }
    attack.commit_tree(&object);
    let bundle = attack.place.bundle(&attack.clone, &[&attack.range()]);
    assert_eq!(attack.attempt(&bundle).await.unwrap_err().code, Code::BundleTooLarge);
}
