//! Ends that are not the program's own.

use std::time::Duration;

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
    assert_eq!(std::fs::read_to_string(received.join("partial.txt")).unwrap(), "partial\n");
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
    assert!(outcome.reason().starts_with("drained"));
    assert!(!ran.exists());
}
