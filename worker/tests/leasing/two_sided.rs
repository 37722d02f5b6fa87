//! A lease is two-sided: its worker has stopped its agent before the coordinator may give the task away.

use protocol::{lease::OrderKind, report::Outcome, task::Work};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    door::{Door, Happened, Verb},
    place::Place,
    work::{Process, Worker, of_agent, there},
};

/// Seconds; the margin is a third of it.
const LEASE_S: u64 = 6;

/// A program that never ends, and does not hear SIGTERM.
fn endless(place: &Place) -> Work {
    place.exec_work(&["bash", "-c", "trap '' TERM; touch started; while :; do sleep 0.1; done"])
}

/// Those of them that are still there.
fn signal_all(pids: &[Pid], signal: Signal) {
    for pid in pids {
        let _ = kill_process(*pid, signal);
    }
}

#[tokio::test]
async fn the_agent_is_dead_before_the_task_is_given_away_whatever_grace_it_had() {
    for cancelled in [false, true] {
        let Some(place) = Place::new() else { return };
        let mut door = Door::open(&place.at("doors"), place.assignment(endless(&place), 60), LEASE_S);
        let worker = Worker::start(&place);
        there(place.places.work.join("started")).await;
        if cancelled {
            door.order(OrderKind::Cancel { grace_s: 60 });
            door.until_it_is(&Happened::Beat(1)).await;
        }
        // Its report would end the lease before its time is over.
        door.silence(Verb::Artifact);
        door.silence(Verb::Heartbeat);
        door.until_it_is(&Happened::GivenAway).await;
        assert!(!place.anybody_left(), "cancelled: {cancelled}");
        door.speak(Verb::Artifact);
        let (report, taken) = door.report().await;
        assert!(!taken);
        let outcome = if cancelled { Outcome::Cancelled } else { Outcome::Lost };
        assert_eq!(report.outcome, outcome, "{:?}", report.reason);
        worker.ends().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_stopped_finds_its_lease_over_at_once() {
    for whole_sandbox in [false, true] {
        let Some(place) = Place::new() else { return };
        let mut door = Door::open(&place.at("doors"), place.assignment(endless(&place), 600), LEASE_S);
        let worker = Process::start(&place);
        there(place.places.work.join("started")).await;
        door.until_it_is(&Happened::Beat(0)).await;
        worker.signal(Signal::STOP);
        let agent = if whole_sandbox { of_agent(&place) } else { Vec::new() };
        signal_all(&agent, Signal::STOP);
        door.until_it_is(&Happened::GivenAway).await;
        assert!(place.anybody_left(), "nobody could have ended it");
        // The coordinator says nothing more: the worker has its own clock.
        door.silence(Verb::Heartbeat);
        door.rest();
        signal_all(&agent, Signal::CONT);
        worker.signal(Signal::CONT);
        let (report, taken) = door.report().await;
        assert!(!taken, "another worker may have the task");
        assert_eq!(report.outcome, Outcome::Lost);
        assert!(report.reason.as_deref().unwrap().starts_with("coordinator_silent"), "{:?}", report.reason);
        assert!(!place.anybody_left());
        assert!(worker.ends().contains("Ok(Done)"));
        assert!(
            !door.rest().iter().any(|happened| matches!(happened, Happened::Beat(_))),
            "a beat was taken"
        );
    }
}
