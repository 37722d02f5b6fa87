//! Outboxes that take nothing: what is done is still told.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use protocol::report::Outcome;
use worker::exit::Exit;

use crate::{
    door::{Door, Happened, released},
    place::Place,
    work::{Worker, there},
};

/// A disk of 256 KiB, mounted on the outbox.
struct Disk(PathBuf);

impl Disk {
    fn mount(outbox: &Path) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k,mode=0700", "none"]).arg(outbox);
        assert!(mount.status().unwrap().success());
        Self(outbox.to_owned())
    }

    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_disk_that_is_full_costs_artifacts_and_not_the_result() {
    let Some(place) =
        Place::with_agent("touch started; until [ -e go ]; do sleep 0.05; done; echo last words")
    else {
        return;
    };
    let disk = Disk::mount(&place.places.outbox);
    let mut door = Door::open(&place.at("doors"), place.assignment(place.agent_work("go"), 60), 45);
    let worker = Worker::start(&place);
    there(place.places.work.join("started")).await;
    disk.fill();
    fs::write(place.places.work.join("go"), "").unwrap();
    let (report, taken) = door.report().await;
    assert_eq!(worker.ends().await.unwrap(), Exit::Done);
    assert_eq!((report.outcome, taken), (Outcome::Succeeded, true), "{:?}", report.reason);
    assert_eq!(report.message.as_deref(), Some("last words\n"));
    assert!(report.head.is_some() && report.artifacts.is_empty(), "{:?}", report.artifacts);
    assert!(report.log_tail.contains("no patch"), "what is missing is said: {}", report.log_tail);
    assert!(!place.places.outbox.join("report.json").exists(), "the disk was full");
}

#[tokio::test]
async fn an_outbox_that_takes_no_files_ends_the_attempt_with_a_reason() {
    for name in ["artifacts", "artifacts/log", "events"] {
        let Some(place) = Place::new() else { return };
        let ran = place.places.work.join("ran");
        let task = place.assignment(place.exec_work(&["touch", ran.to_str().unwrap()]), 60);
        in_the_way(&place.places.outbox.join(name));
        let mut door = Door::open(&place.at("doors"), task, 45);
        let worker = Worker::start(&place);
        let (report, taken) = door.report().await;
        assert_eq!((report.outcome, taken), (Outcome::Lost, true), "{name}");
        assert!(
            report.reason.as_deref().unwrap().starts_with("sandbox_broken: the outbox"),
            "{:?}",
            report.reason
        );
        assert_eq!(worker.ends().await.unwrap(), Exit::Broken);
        assert!(!ran.exists());
    }
}

/// A folder where a file is to be, or a file where a folder is to be.
fn in_the_way(path: &Path) {
    if path.ends_with("artifacts") || path.ends_with("events") {
        fs::write(path, "").unwrap();
    } else {
        fs::create_dir_all(path).unwrap();
    }
}

#[tokio::test]
async fn a_lease_that_cannot_be_noted_goes_back_and_is_not_started() {
    let Some(place) = Place::new() else { return };
    let disk = Disk::mount(&place.places.outbox);
    disk.fill();
    let mut door = Door::open(&place.at("doors"), place.assignment(place.exec_work(&["true"]), 60), 45);
    let worker = Worker::start(&place);
    let reason = door.until(|happened| match happened {
        Happened::StartAsked => Some("it was started".to_owned()),
        happened => released(happened),
    });
    let reason = reason.await;
    assert!(reason.starts_with("outbox_broken: "), "{reason}");
    assert!(worker.ends().await.is_err(), "the launcher waits before it makes the next sandbox");
}
