//! `--sandbox none`: the same worker on the bare host, as a plain user, and loudly.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a panic is how a test fails, and a skip is said"
)]

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use e2e::{Place, Process};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// A place of a plain user, with a launcher; the scenario is root, so that it may become one.
fn place() -> Option<Place> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        assert!(std::env::var_os("CI").is_none(), "this test must run as root in CI");
        eprintln!("skipped: it lets its programs run as another plain user, which takes root");
        return None;
    }
    let mut place = Place::new();
    place.as_plain_user();
    place.model("[[turn]]\ntext = 'said by the model'");
    place.up();
    place.repo(
        "sample",
        &[("hello.txt", "it is here\n"), (".code-workers/agent", include_str!("asking_agent.sh"))],
    );
    launch(&mut place).wait_for("1 sandbox waits for sample (no sandbox)");
    Some(place)
}

fn launch(place: &mut Place) -> &mut Process {
    place.launch(&["sample", "--sandbox", "none"])
}

/// What runs as exactly this command.
fn running(words: &str) -> Vec<String> {
    let commands = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.ok()?.path();
        let command = String::from_utf8_lossy(&fs::read(pid.join("cmdline")).ok()?).replace('\0', " ");
        (command.trim() == words).then_some(command)
    });
    commands.collect()
}

#[test]
fn root_is_refused() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return; // there is no root to refuse
    }
    let place = Place::new();
    let ran = place.cli(&["run-worker", "sample", "--sandbox", "none"]);
    assert_eq!(ran.code, 64, "without a key: {ran:?}");
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.set("FORTRESS_API_KEY", "any");
    let ran = place.cli(&["run-worker", "sample", "--sandbox", "none"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("refused to root"), "{ran:?}");
}

#[test]
fn a_task_runs_as_the_user_and_everything_that_it_started_ends_with_it() {
    let Some(mut place) = place() else { return };
    let mark = format!("10{}", std::process::id());
    let script = format!(
        "id -u; cat hello.txt; setsid sleep {mark} & (env -i setsid sleep {mark} &); mkdir shut; touch shut/x; chmod 500 shut"
    );
    let ran = place.cli(&["send", "--wait", "--id", "t", "--exec", "sample", "--", "bash", "-c", &script]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("65534\nit is here"), "{ran:?}");
    assert!(running(&format!("sleep {mark}")).is_empty(), "{:?}", running(&format!("sleep {mark}")));
    assert!(place.cli(&["logs", "t"]).ok().contains("no sandbox"), "its owner is told");
    let launcher = place.launchers().last_mut().unwrap();
    launcher.wait_for("t: succeeded");
    launcher.signal(Signal::TERM);
    assert_eq!(launcher.wait(), 0);
    let told = launcher.told();
    assert!(told.contains("the owner's key"), "what is not held is said: {told}");
    for line in told.lines() {
        assert!(line.starts_with("[no sandbox] "), "{line:?} in {told}");
    }
    assert_eq!(fs::read_dir(place.run_folder().join("sandboxes")).unwrap().count(), 0);
}

#[test]
fn an_agent_reaches_its_gateway() {
    let Some(place) = place() else { return };
    let ran = place.cli(&["send", "--wait", "--id", "a", "--agent", "command", "sample", "go"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(place.cli(&["diff", "a"]).ok().contains("said by the model"));
}

#[test]
fn what_a_killed_launcher_and_keeper_leave_is_ended_by_the_next() {
    let Some(mut place) = place() else { return };
    let mark = format!("20{}", std::process::id());
    let script = format!("echo begun; exec sleep {mark}");
    let mut sent =
        place.start_cli(&["send", "--wait", "--id", "long", "--exec", "sample", "--", "bash", "-c", &script]);
    sent.wait_for("is sent");
    place.start_cli(&["logs", "-f", "long"]).wait_for("begun");
    let sandbox = fs::read_dir(place.run_folder().join("sandboxes")).unwrap().next().unwrap().unwrap().path();
    let launcher = place.launchers().last_mut().unwrap();
    launcher.signal(Signal::KILL);
    assert_eq!(launcher.wait(), 137);
    kill_keeper(&sandbox);
    assert_eq!(running(&format!("sleep {mark}")).len(), 1, "{:?}", running(&format!("sleep {mark}")));
    launch(&mut place).wait_for("long: taken");
    place.cli(&["cancel", "--grace", "0", "long"]).ok();
    assert_eq!(sent.wait(), 4, "{}", sent.told());
    let launcher = place.launchers().last_mut().unwrap();
    launcher.signal(Signal::TERM);
    assert_eq!(launcher.wait(), 0);
    assert!(!sandbox.exists(), "{:?}", fs::read_dir(&sandbox).unwrap().flatten().collect::<Vec<_>>());
    assert_eq!(running(&format!("sleep {mark}")), Vec::<String>::new());
}

fn kill_keeper(sandbox: &Path) {
    let keep = format!("--keep {}", sandbox.display());
    let pid = fs::read_dir("/proc").unwrap().find_map(|entry| {
        let path = entry.ok()?.path();
        let command = String::from_utf8_lossy(&fs::read(path.join("cmdline")).ok()?).replace('\0', " ");
        command.contains(&keep).then(|| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
    });
    let keeper = pidfd_open(Pid::from_raw(pid.unwrap()).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&keeper, Signal::KILL).unwrap();
    // Until it is gone it holds its folder, and nobody takes that over.
    poll(&mut [PollFd::new(&keeper, PollFlags::IN)], None).unwrap();
}
