//! Agents that do what agents do: the task ends, with a reason, and with what work there is.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;

use e2e::{Place, Ran};
use serde_json::{Value, json};

/// An agent that is a script of the repository; its argument is what it is to do.
const SCRIPTED: &str = r#"
program = "./agent.sh"
args = ["{prompt}"]
prompt = "argument"

[env]
VIRTUAL_KEY = "{key}"

[model]
default = "anthropic/claude-sonnet-4-5"
providers = ["anthropic"]
form = "name"

[install]
hint = "it stands in the repository"
"#;

const AGENT: &str = r#"#!/bin/bash
eval "$1"
"#;

/// A place whose agent `scripted` does what its prompt says in bash.
fn place() -> Place {
    let mut place = Place::new();
    place.agent_file("scripted", SCRIPTED);
    place.model("[[turn]]\ntext = 'unused'");
    place.up();
    place.repo("sample", &[("agent.sh", AGENT), ("a.txt", "one\n")]);
    place.launch(&["sample", "--parallel", "2", "--agent", "scripted"]);
    place
}

fn send(place: &Place, id: &str, script: &str, more: &[&str]) -> (Ran, Value) {
    let mut args = vec!["send", "--wait", "--id", id];
    args.extend(more);
    args.extend(["sample", script]);
    let ran = place.cli(&args);
    (ran, place.task(id))
}

fn patch(place: &Place, id: &str) -> String {
    place.cli(&["diff", id]).ok()
}

fn reason(task: &Value) -> &str {
    task["reason"].as_str().unwrap_or_default()
}

#[test]
fn agents_that_end_in_odd_ways() {
    let place = place();
    let (ran, task) = send(&place, "idle", "true", &[]);
    assert_eq!(
        (ran.code, &task["result"]["diff"]["files"]),
        (0, &0.into()),
        "no change is no fault: {task:#}"
    );

    let (ran, task) = send(&place, "killed", "echo more >> a.txt; kill -9 $$", &[]);
    assert_eq!((ran.code, &task["result"]["exit_code"]), (1, &137.into()), "{task:#}");
    assert!(reason(&task).starts_with("killed"), "{task:#}");
    assert!(patch(&place, "killed").contains("+more"), "partial work comes back");

    let (ran, task) = send(&place, "rescued", "rm -rf /work/.git; echo more >> a.txt; exit 3", &[]);
    assert_eq!(ran.code, 1, "{task:#}");
    assert!(patch(&place, "rescued").contains("+more"), "work without its .git comes back: {task:#}");

    let (ran, task) = send(&place, "hooked", HOOKS, &[]);
    assert_eq!(ran.code, 0, "{task:#}");
    let changed = patch(&place, "hooked");
    assert!(
        changed.contains("+more") && !changed.contains("b/hook-ran"),
        "no hook ran at the commit: {changed}"
    );

    let (ran, task) = send(&place, "missing", "true", &["--agent", "nobody-has-this"]);
    assert_eq!(ran.code, 1, "{task:#}");
    assert!(reason(&task).starts_with("agent_"), "{task:#}");
}

const HOOKS: &str = r#"
mkdir -p .hooks; printf '#!/bin/sh\ntouch /work/hook-ran\n' | tee .hooks/pre-commit .hooks/post-commit > .hooks/fs
chmod +x .hooks/*; git config core.hooksPath /work/.hooks; git config core.fsmonitor /work/.hooks/fs
printf '*.txt filter=evil\n' > .gitattributes; echo more >> a.txt
"#;

#[test]
fn an_agent_that_never_ends_is_ended_with_all_that_it_started() {
    let place = place();
    let script = "echo more >> a.txt; setsid sh -c 'trap \"\" TERM; while :; do sleep 1000; done' & trap '' TERM; while :; do sleep 1; done";
    let (ran, task) = send(&place, "endless", script, &["--timeout", "2"]);
    assert_eq!((ran.code, &task["state"]), (3, &"timed_out".into()), "{task:#}");
    assert!(patch(&place, "endless").contains("+more"), "partial work comes back");
    assert_eq!(task["result"]["limits"], json!(["time"]), "{task:#}");
}

#[test]
fn a_cancelled_agent_leaves_its_partial_work() {
    let place = place();
    let mut sent = place.start_cli(&[
        "send",
        "--wait",
        "--id",
        "stop",
        "sample",
        "echo more >> a.txt; echo begun; sleep 1000",
    ]);
    sent.wait_for("is sent");
    place.start_cli(&["logs", "-f", "stop"]).wait_for("begun");
    place.cli(&["cancel", "stop"]).ok();
    assert_eq!(sent.wait(), 4, "{}", sent.told());
    assert!(patch(&place, "stop").contains("+more"), "partial work comes back");
    assert_eq!(place.cli(&["cancel", "stop"]).code, 6, "what has ended is not cancelled");
}

#[test]
fn a_flood_of_output_is_cut_and_said_so() {
    let place = place();
    let (ran, task) = send(
        &place,
        "flood",
        "head -c 300000000 /dev/zero | tr '\\0' 'x' | fold -w 200; echo; echo the end",
        &[],
    );
    assert_eq!(ran.code, 0, "{task:#}");
    let output = fs::metadata(place.data().join("output/flood")).unwrap().len();
    assert!(output < 200 * 1024 * 1024, "{output} bytes are kept");
    let logs = place.cli(&["logs", "--json", "flood"]).ok();
    let (_, end) = logs.rsplit_once("\"kind\":\"dropped\"").expect("the cut is told");
    assert!(end.contains("\"text\":\"the end\""), "the end is on the stream");
    assert!(task["result"]["log_tail"].as_str().unwrap().contains("the end"), "the end is kept");
    assert_eq!(task["result"]["limits"], json!(["output"]), "{task:#}");
}

#[test]
fn a_full_budget_is_told_as_such() {
    let place = place();
    let ask = r#"curl -s -o out -w '%{http_code}' http://authproxy:4000/v1/messages -H "x-api-key: $VIRTUAL_KEY" -H 'anthropic-version: 2023-06-01' -d '{"model":"claude-sonnet-4-5","max_tokens":1000,"messages":[{"role":"user","content":"x"}]}'; cat out; exit 1"#;
    let (_, task) = send(&place, "poor", ask, &["--budget", "0.000001"]);
    let log = task["result"]["log_tail"].as_str().unwrap();
    assert!(log.starts_with("402") && log.contains("budget_spent"), "{task:#}");
    let (_, task) = send(&place, "rich", ask, &["--budget", "1"]);
    assert_ne!(task["usage"]["spent_usd"], "0.00", "{task:#}");
    assert_eq!(task["usage"]["requests"], 1, "{task:#}");
}
