//! `code-workers doctor`: a chain that works is told link by link, and the link that is broken is the one named.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::fs;

use e2e::Place;
use serde_json::Value;

/// What it says, and its exit code.
fn doctor(place: &Place, args: &[&str]) -> (i32, Vec<Value>) {
    let ran = place.cli(&[&["doctor", "--json"], args].concat());
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran.code, report["checks"].as_array().unwrap().clone())
}

fn names(checks: &[Value], status: &str) -> Vec<String> {
    let these = checks.iter().filter(|check| check["status"] == status);
    these.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
}

fn found<'a>(checks: &'a [Value], name: &str) -> &'a str {
    let check = checks.iter().find(|check| check["name"] == name);
    check.unwrap_or_else(|| panic!("no {name} in {checks:?}"))["found"].as_str().unwrap()
}

#[test]
fn a_chain_that_works_is_seen_to_its_last_link() {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.sample();
    place.launch(&["sample"]).wait_for("sandbox waits");
    let (code, checks) = doctor(&place, &["sample"]);
    assert_eq!((code, names(&checks, "failed")), (0, Vec::new()), "{checks:?}");
    let ok = names(&checks, "ok");
    for link in [
        "programs",
        "git",
        "configuration",
        "owner's key",
        "disk",
        "run folder",
        "coordinator",
        "keys match",
        "workers' door",
        "gateway",
        "real keys",
        "relay",
        "sandbox",
        "doors, from inside",
    ] {
        assert!(ok.iter().any(|name| name == link), "{link} in {checks:?}");
    }
    let text = place.cli(&["doctor"]).ok();
    assert!(text.contains("0 failed"), "{text}");
}

#[test]
fn the_broken_link_is_the_one_that_is_named() {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.sample();
    place.set("FORTRESS_API_KEY", "another-key");
    let (code, checks) = doctor(&place, &["sample"]);
    assert_eq!((code, names(&checks, "failed")), (1, vec!["keys match".to_owned()]), "{checks:?}");
    assert!(found(&checks, "keys match").contains("403"), "{checks:?}");

    place.down();
    let (code, checks) = doctor(&place, &["sample"]);
    assert_eq!(code, 1);
    assert_eq!(
        names(&checks, "failed"),
        ["coordinator", "workers' door", "gateway", "real keys"],
        "{checks:?}"
    );
    assert_eq!(found(&checks, "relay"), "the coordinator does not answer");

    place.set("CODE_WORKERS_RUNSC", "/nowhere/runsc");
    let (_, checks) = doctor(&place, &[]);
    assert!(found(&checks, "sandbox").contains("/nowhere/runsc"), "{checks:?}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_told_whole() {
    let place = Place::new();
    place.configure("nonsense = 1\n");
    let (code, checks) = doctor(&place, &[]);
    assert_eq!((code, names(&checks, "failed")), (1, vec!["configuration".to_owned()]), "{checks:?}");
    assert!(found(&checks, "configuration").contains("nonsense"));
}

#[test]
fn a_newcomer_is_told_what_comes_first() {
    let mut place = Place::new();
    place.set("FORTRESS_API_KEY", "");
    let (code, checks) = doctor(&place, &[]);
    assert_eq!(code, 1);
    assert!(found(&checks, "owner's key").contains("neither"), "{checks:?}");
    assert!(names(&checks, "ok").contains(&"sandbox".to_owned()), "{checks:?}");
    let left = fs::read_dir(place.run_folder()).map_or(0, Iterator::count);
    assert_eq!(left, 0, "what the probe of the sandbox left");
}
