//! Whatever is killed, the task ends, once, with its result or its reason.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{fs, process::Command};

use e2e::{Place, Process, REAL_KEY, wait_for_file};

/// The pids of the programs of this name whose environment names this place.
fn pids_of(place: &Place, program: &str) -> Vec<u32> {
    let home = format!("HOME={}", place.home().display());
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).into_owned();
            let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let named = executable.ends_with(program) || command.starts_with(program);
            let of_this_place = read("environ").split(|b| *b == 0).any(|v| v == home.as_bytes());
            named && (of_this_place || command.contains(place.home().to_str().unwrap()))
        })
        .collect()
}

fn kill_9(pids: &[u32]) {
    assert!(!pids.is_empty(), "there is something to kill");
    for pid in pids {
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        assert!(killed.success());
    }
}

/// A place with a task that is in the middle of its work: it has written a file, said so, and goes on
/// until the file `/work/.artifacts/go` … it ends by itself after `seconds`.
fn with_a_running_task(seconds: u32) -> (Place, Process) {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("a", "a\n")]);
    place.launch(&["sample"]);
    let script = format!("echo partial > partial.txt; echo begun; sleep {seconds}; echo ended");
    let send = ["send", "--wait", "--id", "long", "--exec", "sample", "--", "sh", "-c", &script];
    let mut sent = place.start_cli(&send);
    sent.wait_for("is sent");
    let mut logs = place.start_cli(&["logs", "-f", "long"]);
    logs.wait_for("begun");
    (place, sent)
}

#[test]
fn a_coordinator_killed_in_the_middle_comes_back_and_the_task_ends_once() {
    let (mut place, _sent) = with_a_running_task(4);
    kill_9(&pids_of(&place, "code-workers-coordinator"));
    place.up_process().wait_for("restart");
    let mut again = place.start_cli(&["logs", "-f", "long"]);
    again.wait_for("succeeded");
    let task = place.task("long");
    assert_eq!((&task["state"], &task["attempt"]), (&"succeeded".into(), &1.into()), "{task:#}");
}

#[test]
fn a_gateway_killed_in_the_middle_comes_back_and_the_task_ends() {
    let (mut place, mut sent) = with_a_running_task(3);
    kill_9(&pids_of(&place, "code-workers-gateway"));
    place.up_process().wait_for("restart");
    assert_eq!(sent.wait(), 0);
}

#[test]
fn a_launcher_killed_in_the_middle_leaves_the_task_to_end() {
    let (place, mut sent) = with_a_running_task(3);
    let launchers = pids_of(&place, "code-workers-launcher");
    let main: Vec<u32> = launchers.into_iter().filter(|pid| !is_keeper(*pid)).collect();
    kill_9(&main);
    assert_eq!(sent.wait(), 0, "{}", sent.told());
    assert_eq!(place.task("long")["attempt"], 1);
}

#[test]
fn a_sandbox_killed_in_the_middle_is_told_and_its_task_tried_again() {
    let (mut place, mut sent) = with_a_running_task(2);
    kill_9(&pids_of(&place, "runsc-sandbox"));
    assert_eq!(sent.wait(), 0, "{}", sent.told());
    let task = place.task("long");
    assert_eq!(task["attempt"], 2, "{task:#}");
    let logs = place.cli(&["logs", "long"]).ok();
    assert!(logs.contains("killed"), "the reason is told: {logs}");
    drop(place.launchers().drain(..));
    assert!(pids_of(&place, "runsc-sandbox").is_empty(), "nothing is left behind");
    assert_eq!(
        fs::read_dir(place.run_folder().join("sandboxes")).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn a_report_in_a_dead_sandbox_is_delivered() {
    let (mut place, _sent) = with_a_running_task(2);
    place.down();
    let sandbox = fs::read_dir(place.run_folder().join("sandboxes")).unwrap().next().unwrap().unwrap().path();
    wait_for_file(&sandbox.join("outbox/report.json"));
    kill_9(&pids_of(&place, "runsc-sandbox"));
    place.up();
    place.start_cli(&["logs", "-f", "long"]).wait_for("== succeeded");
    let task = place.task("long");
    assert_eq!(
        (&task["attempt"], &task["result"]["message"]),
        (&1.into(), &"begun\nended\n".into()),
        "{task:#}"
    );
}

#[test]
fn a_keeper_killed_in_the_middle_is_swept_and_its_task_tried_again() {
    let (place, mut sent) = with_a_running_task(2);
    let keepers: Vec<u32> =
        pids_of(&place, "code-workers-launcher").into_iter().filter(|pid| is_keeper(*pid)).collect();
    kill_9(&keepers);
    assert_eq!(sent.wait(), 0, "{}", sent.told());
    assert_eq!(place.task("long")["attempt"], 2);
}

#[test]
fn a_taken_port_is_told_and_ends_up() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut place = Place::new();
    place.set("COORDINATOR_BIND", &taken.local_addr().unwrap().to_string());
    let ran = place.cli(&["up"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(format!("{}{}", ran.out, ran.err).contains("in use"), "{ran:?}");
}

/// The real key stands in the environment of `up`, of the gateway, and of nothing else that was started.
#[test]
fn the_real_key_is_in_the_gateways_process_alone() {
    let (place, _sent) = with_a_running_task(3);
    let holds = |program: &str| {
        let pids = pids_of(&place, program);
        assert!(!pids.is_empty(), "{program} runs");
        pids.iter().any(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
            environment.windows(REAL_KEY.len()).any(|window| window == REAL_KEY.as_bytes())
        })
    };
    assert!(holds("code-workers-gateway"), "the gateway has it, or this test sees nothing");
    for program in ["code-workers-coordinator", "runsc-sandbox"] {
        assert!(!holds(program), "{program} has the real key");
    }
}

fn is_keeper(pid: u32) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.split(|b| *b == 0).any(|argument| argument == b"--keep")
}
