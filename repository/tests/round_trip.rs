//! From a source through the mirror to a result in the user's repository.

mod common;

use std::fs;

use common::{Place, git, head, helper, task};
use repository::{Code, branch_of, branch_ref_of, mirror_ref_of};

#[tokio::test]
async fn a_result_comes_back_as_one_branch() {
    for object_format in ["sha1", "sha256"] {
        let place = Place::with_format(object_format);
        let base = place.mirrored().await;
        assert_eq!(helper().resolve(&place.mirror, None).await.unwrap(), base);
        let task = task("task-1");
        let bundle = place.worked(&task, &base);
        let status_before = git(&place.source, &["status", "--porcelain"]);

        let report = helper().check(&bundle, &task, &base, &place.mirror).await.unwrap();
        assert_eq!((report.commits, report.files, report.insertions, report.deletions), (1, 2, 4, 1));

        let applied = helper().apply(&bundle, &task, &base, &place.source).await.unwrap();
        assert!(applied.created);
        assert_eq!(applied.branch, "code-workers/task-1");
        assert_eq!(git(&place.source, &["rev-parse", &branch_ref_of(&task)]), report.tip.as_str());
        assert_eq!(head(&place.source), base);
        assert_eq!(git(&place.source, &["symbolic-ref", "HEAD"]), "refs/heads/main");
        assert_eq!(git(&place.source, &["status", "--porcelain"]), status_before);
        assert_eq!(git(&place.source, &["for-each-ref"]).lines().count(), 2);
        assert!(!place.source.join(".git/FETCH_HEAD").exists());

        let again = helper().apply(&bundle, &task, &base, &place.source.join("sub")).await.unwrap();
        assert!(!again.created);
    }
}

#[tokio::test]
async fn a_branch_of_the_users_is_never_moved() {
    let place = Place::new();
    let base = place.mirrored().await;
    let task = task("task-1");
    let bundle = place.worked(&task, &base);
    // An ancestor of the result: git itself would move it forward.
    git(&place.source, &["branch", &branch_of(&task)]);
    let refused = helper().apply(&bundle, &task, &base, &place.source).await.unwrap_err();
    assert_eq!(refused.code, Code::BranchExists);
    assert_eq!(git(&place.source, &["rev-parse", &branch_ref_of(&task)]), base.as_str());

    git(&place.source, &["branch", "-m", &branch_of(&task), "code-workers"]);
    let refused = helper().apply(&bundle, &task, &base, &place.source).await.unwrap_err();
    assert_eq!(refused.code, Code::BranchExists);
}

#[tokio::test]
async fn a_target_without_the_base_is_told_so() {
    let place = Place::new();
    let base = place.mirrored().await;
    let task = task("task-1");
    let bundle = place.worked(&task, &base);
    let other = Place::new();
    git(&other.source, &["commit", "-q", "--amend", "-m", "another history"]);
    git(&other.source, &["gc", "-q", "--prune=now"]);
    git(&other.source, &["reflog", "expire", "--expire=now", "--all"]);
    git(&other.source, &["gc", "-q", "--prune=now"]);
    let refused = helper().apply(&bundle, &task, &base, &other.source).await.unwrap_err();
    assert_eq!(refused.code, Code::BaseMissing);
    assert!(refused.remedy.contains("git fetch"));

    let nowhere = helper().apply(&bundle, &task, &base, &place.path("nowhere")).await.unwrap_err();
    assert_eq!(nowhere.code, Code::NotARepository);
    let bare_folder = place.path("folder");
    fs::create_dir(&bare_folder).unwrap();
    let nothing = helper().apply(&bundle, &task, &base, &bare_folder).await.unwrap_err();
    assert_eq!(nothing.code, Code::NotARepository);
}

#[tokio::test]
async fn an_imported_result_is_a_base_for_a_later_task() {
    let place = Place::new();
    let base = place.mirrored().await;
    let task = task("first.lock");
    let bundle = place.worked(&task, &base);
    let imported = helper().import(&bundle, &task, &base, &place.mirror).await.unwrap();
    assert_eq!(imported.ref_name, mirror_ref_of(&task));
    let named = helper().resolve(&place.mirror, Some(&imported.ref_name)).await.unwrap();
    assert_eq!(named, imported.report.tip);
    // A refresh leaves it alone, and an import leaves the branches alone.
    place.mirrored().await;
    assert_eq!(helper().resolve(&place.mirror, Some(&imported.ref_name)).await.unwrap(), named);
    assert_eq!(helper().resolve(&place.mirror, None).await.unwrap(), base);
    assert!(!git(&place.mirror, &["for-each-ref"]).contains("refs/heads/code-workers"));
}

#[tokio::test]
async fn a_clone_that_ends_at_a_depth_takes_a_result_too() {
    let place = Place::new();
    let base = place.mirrored().await;
    let task = task("task-1");
    let bundle = place.worked(&task, &base);
    let url = format!("file://{}", place.source());
    let shallow = place.path("shallow");
    git(place.folder.path(), &["clone", "-q", "--depth=1", &url, shallow.to_str().unwrap()]);
    let applied = helper().apply(&bundle, &task, &base, &shallow).await.unwrap();
    assert_eq!(git(&shallow, &["rev-parse", &branch_ref_of(&task)]), applied.report.tip.as_str());
    assert_eq!(git(&shallow, &["rev-list", "--count", &branch_ref_of(&task)]), "2");
}
