//! What an owner tells an agent that runs.

use std::fs;

use protocol::{EventBody, lease::OrderKind, report::Outcome};
use worker::exit::Exit;

use crate::{
    door::{Door, Happened, Verb},
    place::Place,
    work::{Worker, there},
};

/// An agent that keeps what it is told, turn by turn, and ends its first turn when the file `go` is there.
const SCRIPT: &str = r#"#!/bin/bash
turn=$(($(ls turn-* 2>/dev/null | wc -l) + 1))
case "$2" in
  stdin) cat > turn-$turn;;
  argument) printf %s "$3" > turn-$turn;;
  file) cat "$3" > turn-$turn;;
esac
echo "$1 said" >> turn-$turn
cat $HOME/before 2>/dev/null >> turn-$turn; echo "$1" >> $HOME/before
touch started
[ $turn = 1 ] && until [ -e go ]; do sleep 0.05; done
[ $turn = 1 ] && exit 3
exit 0
"#;

/// An agent file that hands the prompt over like this; `CONTINUE` stands for the field, or nothing.
fn file(by: &str, argument: &str, go_on: bool) -> String {
    let args = |word| match argument {
        "" => format!("[\"{word}\", \"{by}\"]"),
        argument => format!("[\"{word}\", \"{by}\", \"{argument}\"]"),
    };
    let go_on = if go_on { format!("continue = {}\n", args("more")) } else { String::new() };
    format!(
        "program = \"./talker.sh\"\nargs = {}\n{go_on}prompt = \"{by}\"\n[model]\ndefault = \"anthropic/x\"\n\
         providers = [\"anthropic\"]\nform = \"name\"\n[install]\nhint = \"it is in the repository\"\n",
        args("first")
    )
}

fn place(by: &str, argument: &str, go_on: bool) -> Option<Place> {
    let mut place = Place::new()?;
    place.base = place.commit_source(&[("talker.sh", SCRIPT)]);
    fs::write(place.places.agent_files.join("command.toml"), file(by, argument, go_on)).unwrap();
    Some(place)
}

fn message(seq: u64, text: &str) -> EventBody {
    EventBody::Message { seq, text: text.to_owned() }
}

fn errors(door: &Door) -> Vec<String> {
    let error = |body| if let EventBody::Error { message } = body { Some(message) } else { None };
    door.events().into_iter().filter_map(error).collect()
}

#[tokio::test]
async fn messages_are_the_next_turn_of_the_same_conversation_however_its_prompts_come() {
    for (by, argument) in [("stdin", ""), ("argument", "{prompt}"), ("file", "{prompt_file}")] {
        let Some(place) = place(by, argument, true) else { return };
        let mut door = Door::open(&place.at("doors"), place.assignment(place.agent_work("begin\n"), 60), 45);
        let worker = Worker::start(&place);
        there(place.places.work.join("started")).await;
        door.tell("one\n");
        door.tell("two\n");
        // Both were given out when a beat came after them.
        door.until_it_is(&Happened::Beat(0)).await;
        door.until_it_is(&Happened::Beat(0)).await;
        assert!(!place.places.work.join("turn-2").exists());
        fs::write(place.places.work.join("go"), "").unwrap();
        let (report, _) = door.report().await;
        assert_eq!(worker.ends().await.unwrap(), Exit::Done);
        assert_eq!((report.outcome, report.exit_code), (Outcome::Succeeded, Some(0)), "the last turn counts");
        let turn = |number| fs::read_to_string(place.places.work.join(format!("turn-{number}"))).unwrap();
        assert_eq!(turn(1), "begin\nfirst said\n", "{by}");
        assert_eq!(turn(2), "one\n\n\ntwo\nmore said\nfirst\n", "{by}");
        let told: Vec<_> =
            door.events().into_iter().filter(|body| matches!(body, EventBody::Message { .. })).collect();
        assert_eq!(told, [message(1, "one\n"), message(2, "two\n")]);
        assert_eq!(errors(&door), [""; 0]);
    }
}

#[tokio::test]
async fn a_message_is_acknowledged_when_it_was_handed_over_and_not_before() {
    let Some(place) = place("stdin", "", true) else { return };
    let mut door = Door::open(&place.at("doors"), place.assignment(place.agent_work("begin\n"), 60), 45);
    door.silence(Verb::Artifact);
    let worker = Worker::start(&place);
    there(place.places.work.join("started")).await;
    door.tell("one\n");
    there(place.places.work.join("started")).await;
    door.until_it_is(&Happened::Beat(0)).await;
    fs::write(place.places.work.join("go"), "").unwrap();
    // While the artifacts do not get through, the beats go on.
    let before = door.until(|happened| match happened {
        Happened::Beat(1) => Some(true),
        Happened::Result(..) => Some(false),
        _ => None,
    });
    assert!(before.await, "it was acknowledged");
    assert!(place.places.work.join("turn-2").exists() && door.events().contains(&message(1, "one\n")));
    door.speak(Verb::Artifact);
    worker.ends().await.unwrap();
}

#[tokio::test]
async fn a_message_to_an_agent_that_cannot_go_on_is_answered_and_acknowledged() {
    let Some(place) = place("stdin", "", false) else { return };
    let mut door = Door::open(&place.at("doors"), place.assignment(place.agent_work("begin\n"), 60), 45);
    let worker = Worker::start(&place);
    there(place.places.work.join("started")).await;
    door.tell("one");
    door.until_it_is(&Happened::Beat(1)).await;
    fs::write(place.places.work.join("go"), "").unwrap();
    door.report().await;
    worker.ends().await.unwrap();
    let errors = errors(&door);
    assert!(
        errors.len() == 1 && errors[0].contains("message 1") && errors[0].contains("`continue`"),
        "{errors:?}"
    );
    assert!(!place.places.work.join("turn-2").exists());
}

#[tokio::test]
async fn a_message_that_comes_while_results_are_uploaded_is_answered() {
    let Some(place) = place("stdin", "", true) else { return };
    let mut door = Door::open(&place.at("doors"), place.assignment(place.agent_work("begin\n"), 60), 45);
    door.silence(Verb::Artifact);
    let worker = Worker::start(&place);
    there(place.places.work.join("started")).await;
    fs::write(place.places.work.join("go"), "").unwrap();
    door.until_it_is(&Happened::Artifact("patch".to_owned())).await;
    door.tell("too late");
    door.until_it_is(&Happened::Beat(1)).await;
    door.speak(Verb::Artifact);
    door.report().await;
    worker.ends().await.unwrap();
    let errors = errors(&door);
    assert!(
        errors.len() == 1 && errors[0].contains("message 1") && errors[0].contains("had ended"),
        "{errors:?}"
    );
}

#[tokio::test]
async fn a_cancel_after_a_message_is_heard_and_the_message_is_answered() {
    let Some(place) = place("stdin", "", true) else { return };
    let mut door = Door::open(&place.at("doors"), place.assignment(place.agent_work("begin\n"), 60), 45);
    let worker = Worker::start(&place);
    there(place.places.work.join("started")).await;
    door.tell("one");
    door.until_it_is(&Happened::Beat(0)).await;
    door.order(OrderKind::Cancel { grace_s: 0 });
    let (report, taken) = door.report().await;
    assert_eq!((report.outcome, taken), (Outcome::Cancelled, true));
    worker.ends().await.unwrap();
    let errors = errors(&door);
    assert!(errors.len() == 1 && errors[0].contains("message 1"), "{errors:?}");
    assert!(!place.places.work.join("turn-2").exists());
}
