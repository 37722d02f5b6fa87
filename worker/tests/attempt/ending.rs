//! Ends that are not the program's own.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use protocol::report::Outcome;
use worker::control::{Stop, Stopper};

use crate::place::{Place, stop_when};

#[tokio::test]
async fn what_has_a_session_of_its_own_is_ended_too() {
    let Some(place) = Place::new() else { return };
    let script = "setsid sleep 1000 & setsid nohup sleep 1001 >/dev/null 2>&1 & sleep 1002 & echo started";
    let outcome = place.exec(&["bash", "-c", script]).await;
    assert_eq!(outcome.made.verdict.outcome, Outcome::Succeeded);
    assert!(!place.anybody_left());
}

#[tokio::test]
async fn the_run_time_is_held() {
    let Some(place) = Place::new() else { return };
    let outcome = place.make(place.exec_work(&["sleep", "1000"]), 1, &Stopper::new()).await;
    assert_eq!(outcome.made.verdict.outcome, Outcome::TimedOut);
    assert!(outcome.reason().starts_with("timed_out: "));
    assert!(!place.anybody_left());
}

#[tokio::test]
async fn partial_work_comes_back_when_the_run_time_is_over() {
    let Some(place) = Place::with_agent("echo partial > partial.txt; touch started; sleep 1000") else {
        return;
    };
    let stopper = Stopper::new();
    let started = place.places.work.join("started");
    let (outcome, ()) = tokio::join!(
        place.make(place.agent_work("go"), 60, &stopper),
        stop_when(started, Stop::TimedOut, &stopper)
    );
    assert_eq!(outcome.made.verdict.outcome, Outcome::TimedOut);
    let received = place.received(&outcome);
    assert_eq!(fs::read_to_string(received.join("partial.txt")).unwrap(), "partial\n");
}

#[tokio::test]
async fn a_cancelled_task_is_asked_to_end_then_ended_and_its_work_comes_back() {
    let script = "trap 'echo asked > asked.txt' TERM\ntouch started\nwhile :; do sleep 0.1; done";
    let Some(place) = Place::with_agent(script) else { return };
    let stopper = Stopper::new();
    let grace = Duration::from_secs(1);
    let started = place.places.work.join("started");
    let (outcome, ()) = tokio::join!(
        place.make(place.agent_work("go"), 60, &stopper),
        stop_when(started, Stop::Cancelled { grace }, &stopper)
    );
    assert_eq!(outcome.made.verdict.outcome, Outcome::Cancelled);
    assert!(place.received(&outcome).join("asked.txt").exists());
    assert!(!place.anybody_left());
}

#[tokio::test]
async fn a_lease_that_is_lost_ends_the_agent_without_a_word() {
    let script = "trap 'echo asked > asked.txt' TERM\ntouch started\nwhile :; do sleep 0.1; done";
    let Some(place) = Place::with_agent(script) else { return };
    let stopper = Stopper::new();
    let started = place.places.work.join("started");
    let (outcome, ()) = tokio::join!(
        place.make(place.agent_work("go"), 60, &stopper),
        stop_when(started, Stop::LeaseLost, &stopper)
    );
    assert_eq!(outcome.made.verdict.outcome, Outcome::Lost);
    assert!(outcome.reason().starts_with("lease_lost"));
    assert!(!place.received(&outcome).join("asked.txt").exists());
}

#[tokio::test]
async fn a_task_that_is_stopped_before_its_program_runs_does_not_run_it() {
    let Some(place) = Place::new() else { return };
    let stopper = Stopper::new();
    stopper.stop(Stop::Drained);
    let ran = place.places.work.join("ran");
    let outcome = place.make(place.exec_work(&["touch", ran.to_str().unwrap()]), 60, &stopper).await;
    assert_eq!(outcome.made.verdict.outcome, Outcome::Lost);
    assert!(outcome.reason().starts_with("released"));
    assert!(!ran.exists());
}

#[tokio::test]
async fn a_helper_that_never_comes_to_kill_costs_neither_the_slot_nor_the_results() {
    let Some(mut place) = Place::with_agent("echo partial > partial.txt; touch started; exec sleep 1000")
    else {
        return;
    };
    // What an agent does that kills whatever its user starts.
    let helper = place.places.work.with_file_name("helper");
    let (tries, real) = (place.places.scratch.with_file_name("tries"), place.places.helper.display());
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = kill-user ]; then echo >> {}; kill -KILL $$; fi\nexec {real} \"$@\"\n",
        tries.display()
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    place.places.helper = helper;
    let stopper = Stopper::new();
    let started = place.places.work.join("started");
    let (outcome, ()) = tokio::join!(
        place.make(place.agent_work("go"), 60, &stopper),
        stop_when(started, Stop::LeaseLost, &stopper)
    );
    assert!(outcome.log.contains("could be ended"), "{}", outcome.log);
    assert!(!outcome.log.contains("did not end"), "{}", outcome.log);
    assert_eq!(fs::read_to_string(place.received(&outcome).join("partial.txt")).unwrap(), "partial\n");
    assert!(fs::read_to_string(tries).unwrap().lines().count() > 2);
    assert!(!place.anybody_left());
}
