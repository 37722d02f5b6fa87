//! Bad input and missing parts: an error that names the fault and the remedy, and nothing half done.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;

use e2e::{Place, Ran};

fn all(ran: &Ran) -> String {
    format!("{}{}", ran.out, ran.err)
}

#[test]
fn every_program_names_every_fault_of_a_bad_configuration_at_once() {
    let mut place = Place::new();
    place.set("FORTRESS_API_KEY", "some-key");
    place.set("COORDINATOR_BIND", "0.0.0.0:1");
    place.set("GATEWAY_BIND", "nowhere");
    place.configure("nonsense = 1\n[sandbox]\nmemory_gb = 2\n");
    for (args, own) in
        [(&["up"][..], "COORDINATOR_BIND"), (&["run-worker", "sample"], "memory_gb"), (&["list"], "nonsense")]
    {
        let ran = place.cli(args);
        assert_eq!(ran.code, 64, "{args:?}: {ran:?}");
        for fault in ["nonsense", "sandbox.memory_gb", own] {
            assert!(all(&ran).contains(fault), "{fault} for {args:?}: {ran:?}");
        }
    }
}

#[test]
fn keys_that_only_a_fortress_brings_are_for_no_other_sandbox() {
    let mut place = Place::new();
    place.set("FORTRESS_API_KEY", "some-key");
    place.configure("key_source = 'env'");
    let ran = place.cli(&["run-worker", "sample"]);
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(all(&ran).contains("--sandbox fortress"), "{ran:?}");
}

#[test]
fn a_runsc_that_is_missing_or_does_not_start_is_told_with_its_reason() {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("a", "a\n")]);
    place.set("CODE_WORKERS_RUNSC", "/nowhere/runsc");
    let ran = place.cli(&["run-worker", "sample"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(all(&ran).contains("/nowhere/runsc") && all(&ran).contains("install"), "{ran:?}");
    place.set("CODE_WORKERS_RUNSC", "/bin/false");
    let ran = place.cli(&["run-worker", "sample"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(all(&ran).contains("/bin/false"), "{ran:?}");
}

#[test]
fn a_launcher_without_a_coordinator_waits_and_says_so_once() {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("a", "a\n")]);
    place.down();
    let launcher = place.launch(&["sample"]);
    launcher.wait_for("not reachable");
    place.up();
    let launcher = &mut place.launchers()[0];
    launcher.wait_for("sandbox waits");
    assert_eq!(launcher.told().matches("not reachable").count(), 1, "{}", launcher.told());
}

#[test]
fn repositories_that_cannot_be_had_are_refused_with_the_reason() {
    let place = Place::with_model("[[turn]]\ntext = 'unused'");
    let empty = place.home().join("empty");
    fs::create_dir(&empty).unwrap();
    let path = empty.to_str().unwrap();
    for (what, source) in [("no such folder", "/nowhere/at/all"), ("no repository", path)] {
        let ran = place.cli(&["repo", "add", "one", source]);
        assert_eq!(ran.code, 6, "{what}: {ran:?}");
    }
    place.git(&empty, &["init", "-q"]);
    let ran = place.cli(&["repo", "add", "one", path]);
    assert_eq!(ran.code, 6, "no commit: {ran:?}");
    assert!(ran.err.contains("commit"), "{ran:?}");
    assert_eq!(place.cli(&["repo", "list"]).ok(), "", "nothing half done");
    for name in ["a/b", "..", "a b", "", &"x".repeat(200)] {
        let ran = place.cli(&["repo", "add", name, path]);
        assert!([2, 6].contains(&ran.code), "{name:?}: {ran:?}");
    }
    for args in [["send", "nobody", "x"], ["run-worker", "nobody", "--once"]] {
        let ran = place.cli(&args);
        assert_eq!(ran.code, 6, "{ran:?}");
        assert!(ran.err.contains("repo add"), "the remedy: {ran:?}");
    }
}

#[test]
fn a_base_that_is_not_there_fails_the_task() {
    let place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("a", "a\n")]);
    for base in ["no-such-branch", "0123456789012345678901234567890123456789"] {
        let ran = place.cli(&["send", "--wait", "--base", base, "sample", "x"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("base_unresolvable"), "{ran:?}");
    }
}

#[test]
fn scripts_send_what_they_are_given_whatever_it_holds() {
    let place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("a", "a\n")]);
    let prompt = "it's \"quoted\" $HOME `id` \\n \\\\ %s\n-- second\tline é 漢字 🦀\n";
    let sent = place.script("send_task.sh", &["--id", "odd", "sample", "-"], prompt);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert_eq!(place.task("odd")["prompt"], prompt);
    let again = place.script("send_task.sh", &["--id", "odd2", "sample", prompt], "");
    assert_eq!((again.code, &place.task("odd2")["prompt"]), (0, &prompt.into()), "{again:?}");
    assert_eq!(place.script("send_task.sh", &["--id", "odd", "sample", "another"], "").code, 6);
    assert_eq!(place.script("send_task.sh", &["--id", "lease", "sample", "x"], "").code, 6);
    assert_eq!(place.script("send_task.sh", &["sample"], "").code, 2);
    assert_eq!(place.script("poll_task.sh", &["odd"], "").code, 7);
    assert_eq!(place.script("poll_task.sh", &["unheard-of"], "").code, 6);
}
