//! Sources, good and bad, and what a mirror makes of them.

#![allow(clippy::unwrap_used, reason = "tests' own helpers too")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::{Place, git, head, helper, task};
use repository::Code;

#[tokio::test]
async fn a_source_is_described_before_it_is_registered() {
    let place = Place::new();
    let described = helper().describe(&format!("file://{}", place.source())).await.unwrap();
    assert_eq!(described.source, place.source());
    assert_eq!(described.default_branch.as_deref(), Some("main"));
    assert_eq!(described.head.unwrap(), head(&place.source));

    let folder = place.path("folder");
    fs::create_dir(&folder).unwrap();
    let empty = place.path("empty");
    git(place.folder.path(), &["init", "-q", empty.to_str().unwrap()]);
    let shallow = place.path("shallow");
    let url = format!("file://{}", place.source());
    git(place.folder.path(), &["clone", "-q", "--depth=1", &url, shallow.to_str().unwrap()]);
    let at = |name: &str| place.path(name).to_str().unwrap().to_owned();
    for (source, code) in [
        (at("nothing"), Code::SourceMissing),
        (at("source/a"), Code::NotARepository),
        (at("folder"), Code::NotARepository),
        (at("empty"), Code::SourceEmpty),
        (at("shallow"), Code::SourceShallow),
        ("git://127.0.0.1:1/project".to_owned(), Code::SourceMissing),
        ("http://127.0.0.1:1/project".to_owned(), Code::SourceMissing),
        ("ssh://user:password@127.0.0.1/project".to_owned(), Code::SourceInvalid),
        ("ext::sh -c touch% /tmp/owned".to_owned(), Code::SourceInvalid),
        ("ftp://127.0.0.1/project".to_owned(), Code::SourceInvalid),
        ("-oProxyCommand=touch:x".to_owned(), Code::SourceInvalid),
        ("ssh://-oProxyCommand=touch/x".to_owned(), Code::SourceInvalid),
        (String::new(), Code::SourceInvalid),
        ("a\nb".to_owned(), Code::SourceInvalid),
    ] {
        let refused = helper().describe(&source).await.unwrap_err();
        assert_eq!(refused.code, code, "{source}: {refused}");
        let mirror = place.path("mirrors/none.git");
        let refused = helper().refresh(&mirror, &source).await.unwrap_err();
        assert_eq!(refused.code, code, "{source}: {refused}");
        if code == Code::SourceShallow {
            // Seen only while fetching.
            fs::remove_dir_all(&mirror).unwrap();
        }
        assert!(!mirror.exists());
    }
}

#[tokio::test]
async fn a_mirror_follows_its_source_and_forgets_nothing() {
    let place = Place::new();
    let old = place.mirrored().await;
    git(&place.source, &["tag", "-a", "v1", "-m", "first"]);
    git(&place.source, &["branch", "gone"]);
    git(&place.source, &["branch", "feature"]);
    place.mirrored().await;

    git(&place.source, &["branch", "-D", "gone", "feature"]);
    git(&place.source, &["checkout", "-q", "-b", "feature/one"]);
    git(&place.source, &["commit", "-q", "--amend", "-m", "rewritten"]);
    git(&place.source, &["branch", "-f", "main", "feature/one"]);
    let refreshed = helper().refresh(&place.mirror, place.source()).await.unwrap();
    assert!(!refreshed.created);
    assert_eq!(refreshed.default_branch.as_deref(), Some("feature/one"));

    let new = head(&place.source);
    assert_ne!(new, old);
    let resolve = async |base| helper().resolve(&place.mirror, base).await;
    for (base, commit) in [
        (None, &new),
        (Some("main"), &new),
        (Some("feature/one"), &new),
        (Some("gone"), &old),
        (Some("v1"), &old),
        (Some("refs/tags/v1"), &old),
        (Some(&old.as_str()[..9]), &old),
        (Some(old.as_str()), &old),
    ] {
        assert_eq!(&resolve(base).await.unwrap(), commit, "{base:?}");
    }
    let blob = git(&place.source, &["rev-parse", "HEAD:a"]);
    let nothing = "0123456789".repeat(4);
    for base in [
        "feature",
        "nothing",
        &nothing,
        &blob,
        "-h",
        "--all",
        "main~1",
        "main^",
        "@{-1}",
        "main@{0}",
        "a..b",
        ":/first",
        "a b",
        "",
        "main:a",
        "refs/remotes/x",
        "../x",
        "v1-0-gabcdef0",
        "HEAD\nmain",
    ] {
        assert_eq!(resolve(Some(base)).await.unwrap_err().code, Code::BaseUnresolvable, "{base}");
    }
    let elsewhere = helper().resolve(&place.path("none.git"), None).await.unwrap_err();
    assert_eq!(elsewhere.code, Code::MirrorMissing);
}

#[tokio::test]
async fn a_detached_head_and_an_unborn_one_are_followed() {
    let place = Place::new();
    git(&place.source, &["checkout", "-q", "--detach"]);
    let aside = place.commit(&place.source, "a", "on no branch\n");
    assert_eq!(place.mirrored().await, aside);
    assert_eq!(helper().resolve(&place.mirror, None).await.unwrap(), aside);

    git(&place.source, &["symbolic-ref", "HEAD", "refs/heads/unborn"]);
    git(&place.source, &["branch", "-m", "main", "other"]);
    let refreshed = helper().refresh(&place.path("second.git"), place.source()).await.unwrap();
    assert_eq!((refreshed.default_branch, refreshed.head), (None, None));
    let refused = helper().resolve(&place.path("second.git"), None).await.unwrap_err();
    assert_eq!(refused.code, Code::BaseUnresolvable);
    helper().resolve(&place.path("second.git"), Some("other")).await.unwrap();
}

#[tokio::test]
async fn others_can_read_a_mirror_and_nobody_else_can_write() {
    // nextest gives each test a process of its own, so this umask is nobody else's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let place = Place::new();
    let base = place.mirrored().await;
    let task = task("task-1");
    helper().import(&place.worked(&task, &base), &task, &base, &place.mirror).await.unwrap();
    // From a hundred objects on git keeps what it fetches in a pack.
    for number in 0..150 {
        fs::write(place.source.join(format!("file-{number}")), format!("{number}\n")).unwrap();
    }
    place.commit(&place.source, "a", "later\n");
    place.mirrored().await;
    let mut seen = 0;
    each_below(&place.mirror, &mut |path| {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        let wanted = if path.is_dir() { 0o005 } else { 0o004 };
        assert_eq!(mode & wanted, wanted, "{} is {mode:o}", path.display());
        assert_eq!(mode & 0o022, 0, "{} is {mode:o}", path.display());
        seen += 1;
    });
    assert!(seen > 10);
    assert_eq!(git(&place.mirror, &["config", "gc.auto"]), "0");
    assert!(!place.mirror.join("hooks").exists());
}

fn each_below(path: &Path, see: &mut dyn FnMut(&Path)) {
    see(path);
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            each_below(&entry.unwrap().path(), see);
        }
    }
}

#[tokio::test]
async fn a_source_of_another_owner_is_read() {
    let place = Place::new();
    if fs::metadata(&place.source).unwrap().uid() != 0 {
        // Only root can give a folder to somebody else.
        return;
    }
    let mut owned = |path: &Path| std::os::unix::fs::lchown(path, Some(12345), Some(12345)).unwrap();
    each_below(&place.source, &mut owned);
    let described = helper().describe(place.source()).await.unwrap();
    let refreshed = helper().refresh(&place.mirror, place.source()).await.unwrap();
    assert_eq!(described.head, refreshed.head);
}

/// A source, and a user's repository, full of things that run when git is careless.
#[tokio::test]
async fn nothing_that_a_repository_names_is_run() {
    let place = Place::new();
    let marker = place.path("marker");
    let script = place.path("script");
    fs::write(&script, format!("#!/bin/sh\ntouch '{}'\n", marker.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    // The user's own git would run them; make everything first.
    let base = place.mirrored().await;
    let task = task("task-1");
    let bundle = place.worked(&task, &base);
    place.commit(&place.source, "a", "one more, so that there is something to fetch\n");

    let hooks = place.source.join(".git/hooks");
    fs::create_dir_all(&hooks).unwrap();
    for hook in [
        "reference-transaction",
        "post-update",
        "pre-auto-gc",
        "post-checkout",
        "update",
        "post-index-change",
    ] {
        fs::copy(&script, hooks.join(hook)).unwrap();
    }
    let command = script.to_str().unwrap();
    for name in [
        "uploadpack.packObjectsHook",
        "core.fsmonitor",
        "core.sshCommand",
        "core.gitProxy",
        "core.alternateRefsCommand",
        "core.askPass",
        "core.editor",
        "core.pager",
        "credential.helper",
        "diff.external",
        "gpg.program",
        "remote.origin.uploadpack",
        "trailer.x.command",
        "filter.x.smudge",
        "filter.x.process",
    ] {
        git(&place.source, &["config", name, command]);
    }
    let elsewhere = place.path("elsewhere.git");
    helper().describe(place.source()).await.unwrap();
    helper().refresh(&elsewhere, place.source()).await.unwrap();
    place.mirrored().await;
    helper().import(&bundle, &task, &base, &place.mirror).await.unwrap();
    helper().apply(&bundle, &task, &base, &place.source).await.unwrap();
    assert!(!marker.exists());
    // They are live: git's own fetch runs a hook there.
    git(&place.source, &["branch", "alive"]);
    assert!(marker.exists());
}

/// A source that lacks an object and names a command that would bring it.
#[tokio::test]
async fn a_source_cannot_have_its_missing_objects_fetched() {
    let place = Place::new();
    let marker = place.path("marker");
    let blob = git(&place.source, &["rev-parse", "HEAD:a"]);
    fs::remove_file(place.source.join(format!(".git/objects/{}/{}", &blob[..2], &blob[2..]))).unwrap();
    for (name, value) in [
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", "/nowhere"),
        ("remote.origin.uploadpack", &format!("touch {}; false", marker.display())),
    ] {
        git(&place.source, &["config", name, value]);
    }
    helper().refresh(&place.mirror, place.source()).await.unwrap_err();
    assert!(!marker.exists());
}
