//! Workers that have no mirror take the base through their door.

use std::{fs, path::PathBuf};

use protocol::report::Outcome;
use worker::exit::Exit;

use crate::{
    door::{Door, Happened},
    place::{Place, git, text},
    work::Worker,
};

/// A place without a mirror, and the bundle of its base. The agent is this script.
fn without_mirror(script: &str) -> Option<(Place, Vec<u8>)> {
    let mut place = Place::with_agent(script)?;
    // What does not shrink in a pack, so that the half of a bundle is in the middle of one.
    let noise: String =
        (0..20_000_u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    place.base = place.commit_source(&[("noise", &noise)]);
    let source = place.places.mirror.with_file_name("source");
    git(&source, &["update-ref", "refs/heads/base", "HEAD"]);
    git(&source, &["bundle", "create", "--quiet", "../base.bundle", "refs/heads/base"]);
    fs::remove_dir_all(&place.places.mirror).unwrap();
    let bundle = fs::read(source.with_file_name("base.bundle")).unwrap();
    Some((place, bundle))
}

/// The source's repository, with the result fetched into it and checked out.
fn received(place: &Place) -> PathBuf {
    let source = place.places.mirror.with_file_name("source");
    let bundle = place.places.outbox.join("artifacts/bundle");
    git(&source, &["fetch", "--quiet", bundle.to_str().unwrap(), "refs/heads/code-workers/task-1"]);
    git(&source, &["checkout", "--quiet", "--detach", "FETCH_HEAD"]);
    source
}

#[tokio::test]
async fn a_base_comes_through_the_door_and_the_work_goes_back() {
    let Some((place, bundle)) = without_mirror("git log --format=%s; echo new > new.txt; rm README.md")
    else {
        return;
    };
    let task = place.assignment(place.agent_work("go"), 60);
    let mut door = Door::open(&place.at("doors"), task, 45);
    door.give_base(bundle, 0);
    let worker = Worker::start(&place);
    let (report, _) = door.report().await;
    assert_eq!((report.outcome, report.message.as_deref()), (Outcome::Succeeded, Some("base\nbase\nbase\n")));
    assert_eq!(worker.ends().await.unwrap(), Exit::Done);
    let received = received(&place);
    assert!(received.join("new.txt").exists() && !received.join("README.md").exists());
    assert_eq!(text(&git(&received, &["rev-parse", "HEAD^"])), place.base);
}

#[tokio::test]
async fn a_bundle_that_is_cut_is_asked_for_again_and_its_half_is_not_kept() {
    let script = "find .git -name 'tmp_*'; git fsck --no-dangling 2>&1; git status --short";
    let Some((place, bundle)) = without_mirror(script) else { return };
    let task = place.assignment(place.agent_work("go"), 60);
    let mut door = Door::open(&place.at("doors"), task, 45);
    door.give_base(bundle, 2);
    let worker = Worker::start(&place);
    for _ in 0..3 {
        door.until_it_is(&Happened::BaseAsked).await;
    }
    let (report, _) = door.report().await;
    assert_eq!((report.outcome, report.message), (Outcome::Succeeded, None), "{}", report.log_tail);
    worker.ends().await.unwrap();
}

#[tokio::test]
async fn a_repository_that_the_agent_broke_costs_no_work_there_either() {
    let Some((place, bundle)) = without_mirror("echo new > new.txt; rm -rf .git/objects") else { return };
    let task = place.assignment(place.agent_work("go"), 60);
    let mut door = Door::open(&place.at("doors"), task, 45);
    door.give_base(bundle, 0);
    let worker = Worker::start(&place);
    let (report, _) = door.report().await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{}", report.log_tail);
    worker.ends().await.unwrap();
    assert!(received(&place).join("new.txt").exists());
}

#[tokio::test]
async fn what_is_not_the_base_is_not_worked_on() {
    let script = "touch ran";
    for (bundle, reason) in [(None, "no_such_base: "), (Some("other"), "checkout_failed: ")] {
        let Some((place, good)) = without_mirror(script) else { return };
        let mut task = place.assignment(place.agent_work("go"), 60);
        if bundle.is_some() {
            task.base_commit = "1".repeat(40);
        }
        let mut door = Door::open(&place.at("doors"), task, 45);
        door.give_base(bundle.map_or_else(Vec::new, |_| good), 0);
        let worker = Worker::start(&place);
        let (report, _) = door.report().await;
        assert_eq!(report.outcome, Outcome::Failed);
        assert!(report.reason.as_deref().unwrap_or_default().starts_with(reason), "{:?}", report.reason);
        worker.ends().await.unwrap();
        assert!(!place.places.work.join("ran").exists());
    }
}
