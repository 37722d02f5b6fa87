//! Tasks of kind `exec`.

use protocol::{EventBody, report::Outcome};
use worker::{control::Stopper, messages::Mailbox};

use crate::place::Place;

#[tokio::test]
async fn a_program_runs_in_the_tree_as_the_agents_user_and_its_output_comes_back() {
    let Some(place) = Place::new() else { return };
    let script = "id -u; id -G; pwd; cat README.md; git branch --show-current; git rev-parse HEAD; echo oops >&2; exit 3";
    let outcome = place.exec(&["bash", "-c", script]).await;
    let made = &outcome.made;
    assert_eq!(made.verdict.outcome, Outcome::Failed);
    assert_eq!((made.verdict.exit_code, outcome.reason()), (Some(3), "exit_code: 3"));
    let (uid, work) = (place.places.agent.uid, place.places.work.display());
    let expected = format!("{uid}\n{uid}\n{work}\none\ncode-workers/task-1\n{}\n", place.base);
    assert_eq!(made.message.as_deref(), Some(expected.as_str()));
    assert!(outcome.log.contains("oops"));
    assert_eq!(outcome.artifacts.len(), 1, "{:?}", outcome.artifacts);
    let oops = EventBody::Output { stream: "stderr".into(), text: "oops".into() };
    assert!(outcome.events.contains(&oops), "{:?}", outcome.events);
    let stages: Vec<_> = made.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(stages, ["checkout", "agent", "commit"]);
}

#[tokio::test]
async fn a_program_gets_no_key_and_nothing_of_the_workers_environment() {
    let Some(place) = Place::new() else { return };
    let outcome = place.exec(&["env"]).await;
    let environment = outcome.made.message.unwrap();
    assert!(!environment.contains("sk-cw-test"), "{environment}");
    assert!(!environment.contains("CARGO"), "{environment}");
    assert!(environment.contains("TERM=dumb"), "{environment}");
}

#[tokio::test]
async fn the_arguments_come_through_as_they_are() {
    let Some(place) = Place::new() else { return };
    let odd = "it's \"x\" $HOME \\ `id` \n\t é 漢 --uid 0";
    let outcome = place.exec(&["printf", "%s|", odd, ""]).await;
    assert_eq!(outcome.made.message.unwrap(), format!("{odd}||"));
}

#[tokio::test]
async fn a_program_that_is_not_there_and_one_that_a_signal_ends_say_so() {
    let Some(place) = Place::new() else { return };
    let outcome = place.exec(&["no-such-program"]).await;
    assert_eq!(outcome.made.verdict.exit_code, Some(127));
    assert!(outcome.log.contains("cannot run no-such-program"), "{}", outcome.log);
    let Some(place) = Place::new() else { return };
    let outcome = place.exec(&["bash", "-c", "kill -SEGV $$"]).await;
    assert_eq!(outcome.made.verdict.exit_code, Some(128 + 11));
    assert!(outcome.reason().starts_with("killed: signal 11"), "{}", outcome.reason());
}

#[tokio::test]
async fn a_base_that_the_mirror_lacks_is_named() {
    let Some(place) = Place::new() else { return };
    let mut task = place.assignment(place.exec_work(&["true"]), 60);
    task.base_commit = "1".repeat(40);
    let outcome = place.make_task(&task, &Stopper::new(), &Mailbox::default()).await;
    assert_eq!(outcome.made.verdict.outcome, Outcome::Failed);
    assert!(outcome.reason().starts_with("no_such_base: "), "{}", outcome.reason());
}

#[tokio::test]
async fn of_a_line_that_is_too_long_the_start_is_shown_and_the_rest_counted() {
    let Some(place) = Place::new() else { return };
    let outcome =
        place.exec(&["bash", "-c", "head -c 1000000 /dev/zero | tr '\\0' 'y'; echo; echo end"]).await;
    let shown = protocol::limits::OUTPUT_LINE_BYTES;
    let line = |text: String| EventBody::Output { stream: "stdout".into(), text };
    assert!(outcome.events.contains(&line("y".repeat(shown))));
    assert!(outcome.events.contains(&line("end".into())));
    assert_eq!(outcome.events.last(), Some(&EventBody::Dropped { bytes: 1_000_000 - shown as u64 }));
    assert!(outcome.log.len() > 1_000_000);
}

#[tokio::test]
async fn of_a_flood_that_nobody_takes_both_ends_stay_and_the_middle_is_counted() {
    let Some(place) = Place::new() else { return };
    let flood = "head -c 300000000 /dev/zero | tr '\\0' 'y' | fold -w 1000; echo; echo the end";
    let outcome = place.exec(&["bash", "-c", flood]).await;
    assert_eq!(outcome.made.verdict.outcome, Outcome::Succeeded, "{}", outcome.reason());
    let sizes = outcome.events.iter().map(|event| match event {
        EventBody::Output { text, .. } => text.len() as u64,
        EventBody::Dropped { bytes } => *bytes,
        _ => 0,
    });
    assert_eq!(sizes.sum::<u64>(), 300_000_000 + 7);
    let dropped: Vec<_> =
        (0..).zip(&outcome.events).filter(|(_, event)| matches!(event, EventBody::Dropped { .. })).collect();
    let [(place, EventBody::Dropped { bytes })] = dropped[..] else { panic!("{dropped:?}") };
    assert!(300_000_000 - bytes <= protocol::limits::UNSENT_EVENTS_BYTES);
    assert!((1_000..outcome.events.len() - 1_000).contains(&place));
    let end = EventBody::Output { stream: "stdout".into(), text: "the end".into() };
    assert!(outcome.events[place..].contains(&end));
    assert!(outcome.log.len() as u64 <= protocol::limits::LOG_BYTES + 100);
    assert!(outcome.log.ends_with("bytes of output are not in this log\n"));
}

#[tokio::test]
async fn files_that_are_too_large_end_quickly_and_count_as_files() {
    let Some(place) = Place::new() else { return };
    let script = "mkdir .artifacts; echo small > .artifacts/0; truncate -s 10G .artifacts/{1..2000}";
    let outcome = place.exec(&["bash", "-c", script]).await;
    assert!(outcome.has("0"), "{}", outcome.log);
    assert!(outcome.log.contains("more than 100 artifacts"), "{}", outcome.log);
    assert!(outcome.log.lines().count() < 110, "{}", outcome.log);
}
