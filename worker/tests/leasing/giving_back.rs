//! SIGTERM, at every point of a worker's life.

use std::{fs, path::PathBuf};

use protocol::report::Outcome;
use worker::{exit::Exit, verdict::RELEASED};

use crate::{
    door::{Door, Happened, Verb, released},
    place::Place,
    work::{Worker, there},
};

#[tokio::test]
async fn a_worker_that_waits_for_a_task_ends_at_once() {
    let Some(place) = Place::new() else { return };
    let task = place.assignment(place.exec_work(&["true"]), 60);
    let mut door = Door::without_task(&place.at("doors"), task);
    let worker = Worker::start(&place);
    door.until_it_is(&Happened::Waiting).await;
    worker.drain.cancel();
    assert_eq!(worker.ends().await.unwrap(), Exit::Done);
    assert_eq!(door.rest(), []);
}

#[tokio::test]
async fn a_lease_that_was_not_started_goes_back_at_once() {
    let Some(place) = Place::new() else { return };
    let (mut door, ran, worker) = told_to_end_at(&place, Verb::Start).await;
    assert_eq!(door.until(released).await, RELEASED);
    assert_eq!(worker.ends().await.unwrap(), Exit::Done);
    assert!(!place.places.outbox.join("lease.json").exists(), "the launcher has no task to tell of");
    assert!(!ran.exists());
}

#[tokio::test]
async fn a_start_whose_answer_is_out_is_reported_as_released() {
    let Some(place) = Place::new() else { return };
    let (mut door, ran, worker) = told_to_end_at(&place, Verb::Started).await;
    let (report, taken) = door.report().await;
    assert_eq!((report.outcome, report.reason.as_deref(), taken), (Outcome::Lost, Some(RELEASED), true));
    assert_eq!(worker.ends().await.unwrap(), Exit::Done);
    assert!(!ran.exists() && !place.places.outbox.join("lease.json").exists());
}

/// A worker whose start goes no further than this, and which is then told to end.
async fn told_to_end_at(place: &Place, verb: Verb) -> (Door, PathBuf, Worker) {
    let ran = place.places.work.join("ran");
    let task = place.assignment(place.exec_work(&["touch", ran.to_str().unwrap()]), 60);
    let mut door = Door::open(&place.at("doors"), task, 45);
    door.silence(verb);
    let worker = Worker::start(place);
    door.until_it_is(if verb == Verb::Start { &Happened::StartAsked } else { &Happened::Started }).await;
    worker.drain.cancel();
    (door, ran, worker)
}

#[tokio::test]
async fn a_running_task_is_released_with_its_partial_work() {
    let script = "trap 'echo asked > asked.txt; exit' TERM\necho partial > partial.txt; touch started\nwhile :; do sleep 0.1; done";
    let Some(place) = Place::with_agent(script) else { return };
    let mut door = Door::open(&place.at("doors"), place.assignment(place.agent_work("go"), 60), 45);
    let worker = Worker::start(&place);
    there(place.places.work.join("started")).await;
    worker.drain.cancel();
    let (report, taken) = door.report().await;
    assert_eq!((report.outcome, report.reason.as_deref(), taken), (Outcome::Lost, Some(RELEASED), true));
    let names: Vec<_> = report.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    assert_eq!(names, ["patch", "bundle", "log"]);
    let patch = fs::read_to_string(place.places.outbox.join("artifacts/patch")).unwrap();
    assert!(patch.contains("+partial") && patch.contains("+asked"), "{patch}");
    assert_eq!(worker.ends().await.unwrap(), Exit::Done);
    assert!(!place.anybody_left());
}
