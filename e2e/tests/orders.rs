//! What reaches a worker that runs, and what it leaves when it is stopped: messages, the end of its launcher, and the
//! end of all that could have brought its result home.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use e2e::{Agent, Place, wait_for_file};
use rustix::process::{Pid, Signal, kill_process};

/// Two conversations in one: the third turn is played only to an agent that still has the first two.
const TWO_TURNS: &str = r#"
[[turn]]
text = "The first part."
[[turn.tool]]
name = "bash"
input = { command = "echo one > first.txt; sleep 5", description = "The first part" }
[[turn.tool.or]]
name = "Bash"
input = { command = "echo one > first.txt; sleep 5", description = "The first part" }
[[turn.tool.or]]
name = "exec_command"
input = { cmd = "echo one > first.txt; sleep 5" }
[[turn.tool.or]]
name = "shell"
input = { command = ["bash", "-lc", "echo one > first.txt; sleep 5"] }

[[turn]]
text = "The first part is done."

[[turn]]
text = "The second part."
[[turn.tool]]
name = "bash"
input = { command = "echo two > second.txt", description = "The second part" }
[[turn.tool.or]]
name = "Bash"
input = { command = "echo two > second.txt", description = "The second part" }
[[turn.tool.or]]
name = "exec_command"
input = { cmd = "echo two > second.txt" }
[[turn.tool.or]]
name = "shell"
input = { command = ["bash", "-lc", "echo two > second.txt"] }

[[turn]]
text = "The second part is done."
"#;

/// An owner's message is the next turn of the same conversation.
fn an_agent_goes_on(agent: Agent) {
    let Some(mut place) = Place::with_agents(TWO_TURNS) else { return };
    place.repo("sample", &[("a.txt", "a\n")]);
    place.launch(&["sample"]);
    let send = ["send", "--wait", "--id", "talk", "--agent", agent.name(), "sample", "Do the first part."];
    let mut sent = place.start_cli(&send);
    sent.wait_for("is sent");
    place.start_cli(&["logs", "-f", "talk"]).wait_for("The first part.");
    place.cli(&["message", "talk", "Now the second part."]).ok();
    assert_eq!(sent.wait(), 0, "{}\n{}", sent.told(), place.cli(&["logs", "talk"]).out);
    let task = place.task("talk");
    assert_eq!(task["result"]["diff"]["files"], 2, "{task:#}");
    assert!(task["result"]["message"].as_str().unwrap().contains("The second part is done."), "{task:#}");
    let events = place.cli(&["logs", "--json", "talk"]).ok();
    let told: Vec<_> = events.lines().filter(|line| line.contains("\"kind\":\"message\"")).collect();
    assert!(told.len() == 1 && told[0].contains("Now the second part."), "{told:?}");
}

#[test]
fn opencode_goes_on_with_what_its_owner_says() {
    an_agent_goes_on(Agent::Opencode);
}

#[test]
fn claude_goes_on_with_what_its_owner_says() {
    an_agent_goes_on(Agent::Claude);
}

#[test]
fn codex_goes_on_with_what_its_owner_says() {
    an_agent_goes_on(Agent::Codex);
}

/// A place with a task that says `begun` as the first thing that it does.
fn with_a_running(script: &str) -> Place {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("a", "a\n")]);
    place.launch(&["sample"]);
    place.cli(&["send", "--id", "long", "--exec", "sample", "--", "sh", "-c", script]).ok();
    place.start_cli(&["logs", "-f", "long"]).wait_for("begun");
    place
}

/// The launcher's own processes and the sandboxes of this place.
fn pids_of(place: &Place, program: &str) -> Vec<Pid> {
    let home = place.home().to_str().unwrap();
    let of_this_place = |pid: &u32| {
        let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let text = String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned();
        let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        text.contains(home) && (executable.ends_with(program) || text.starts_with(program))
    };
    let pids = fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let pids: Vec<_> =
        pids.filter(of_this_place).filter_map(|pid| Pid::from_raw(pid.cast_signed())).collect();
    assert!(!pids.is_empty(), "{program} runs");
    pids
}

fn outbox(place: &Place) -> PathBuf {
    let sandboxes = fs::read_dir(place.run_folder().join("sandboxes")).unwrap();
    let found = sandboxes.map(|entry| entry.unwrap().path().join("outbox"));
    found.into_iter().find(|outbox| outbox.join("lease.json").exists()).unwrap()
}

#[test]
fn a_result_outlives_its_sandbox_its_keeper_and_its_launcher() {
    let mut place = with_a_running("echo begun; sleep 3; echo ended");
    place.down();
    let outbox = outbox(&place);
    wait_for_file(&outbox.join("report.json"));
    for program in ["code-workers-launcher", "runsc-sandbox"] {
        pids_of(&place, program).into_iter().for_each(|pid| kill_process(pid, Signal::KILL).unwrap());
    }
    place.launchers().iter_mut().for_each(|launcher| assert_eq!(launcher.wait(), 128 + 9));
    assert!(outbox.join("report.json").exists() && !outbox.join("delivered").exists());
    place.up();
    place.launch(&["sample"]);
    place.start_cli(&["logs", "-f", "long"]).wait_for("== succeeded");
    let task = place.task("long");
    let result = (&task["state"], &task["attempt"], &task["result"]["message"]);
    assert_eq!(result, (&"succeeded".into(), &1.into(), &"begun\nended\n".into()), "{task:#}");
    let events = place.cli(&["logs", "--json", "long"]).ok();
    let count = |text: &str| events.lines().filter(|line| line.contains(text)).count();
    assert_eq!((count("\"begun\""), count("\"ended\""), count("\"succeeded\"")), (1, 1, 1), "{events}");
}

#[test]
fn what_a_sandbox_said_before_it_died_is_not_lost() {
    let mut place = with_a_running("echo begun; sleep 2; echo said later; sleep 1000");
    let events = outbox(&place).join("events/00000000-0");
    place.down();
    until(|| fs::read_to_string(&events).unwrap().contains("said later"));
    pids_of(&place, "runsc-sandbox").into_iter().for_each(|pid| kill_process(pid, Signal::KILL).unwrap());
    place.up();
    let said = place.start_cli(&["logs", "-f", "--json", "long"]).wait_for("said later");
    assert!(said.contains("\"attempt\":1"), "the second says it too: {said}");
    place.cli(&["cancel", "long"]).ok();
}

/// As long as a lease lives: the sandbox stands still until its task was given away, and then goes on.
#[test]
fn a_sandbox_that_stood_still_spoils_nothing_when_it_goes_on() {
    // While it stands still it comes no nearer to its end, as it would with one long sleep.
    let mut place = with_a_running("echo begun; for i in $(seq 80); do sleep 0.1; done; echo ended");
    let stopped = pids_of(&place, "runsc-sandbox");
    stopped.iter().for_each(|pid| kill_process(*pid, Signal::STOP).unwrap());
    place.launch(&["sample"]);
    let mut logs = place.start_cli(&["logs", "-f", "--json", "long"]);
    let second = logs.wait_for("\"attempt\":2");
    assert!(logs.told().contains("lease_expired"), "{second}");
    stopped.iter().for_each(|pid| kill_process(*pid, Signal::CONT).unwrap());
    // Its worker found that its time was over, and ended; the other one goes on.
    place.launchers()[0].wait_for("long: lost");
    logs.wait_for("\"succeeded\"");
    let task = place.task("long");
    assert_eq!((&task["attempt"], &task["result"]["outcome"]), (&2.into(), &"succeeded".into()), "{task:#}");
    let events = place.cli(&["logs", "--json", "long"]).ok();
    let ended: Vec<_> = events.lines().filter(|line| line.contains("\"ended\"")).collect();
    assert!(ended.len() == 1 && ended[0].contains("\"attempt\":2"), "{events}");
}

/// Waits for what nobody tells of.
fn until(is_so: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < patience, "it does not come");
        std::thread::yield_now();
    }
}

/// An agent that is a script of the repository; its argument is what it is to do.
const SCRIPTED: &str = r#"
program = "./agent.sh"
args = ["{prompt}"]
prompt = "argument"

[model]
default = "anthropic/claude-sonnet-4-5"
providers = ["anthropic"]
form = "name"

[install]
hint = "it stands in the repository"
"#;

#[test]
fn a_launcher_that_is_stopped_brings_partial_work_home_and_the_task_goes_on_elsewhere() {
    let mut place = Place::new();
    place.agent_file("scripted", SCRIPTED);
    place.set("CODE_WORKERS_DRAIN_S", "1");
    place.model("[[turn]]\ntext = 'unused'");
    place.up();
    place.repo("sample", &[("agent.sh", "#!/bin/bash\neval \"$1\"\n"), ("a.txt", "one\n")]);
    place.launch(&["sample", "--agent", "scripted"]);
    let script = "echo partial >> a.txt; echo begun; sleep 1000";
    place.cli(&["send", "--id", "long", "sample", script]).ok();
    place.start_cli(&["logs", "-f", "long"]).wait_for("begun");
    place.launchers()[0].signal(Signal::TERM);
    assert_eq!(place.launchers()[0].wait(), 0);
    let task = place.task("long");
    assert!(task["reason"].as_str().unwrap().starts_with("released"), "{task:#}");
    assert!(["scheduled", "ready"].contains(&task["state"].as_str().unwrap()), "{task:#}");
    assert_eq!(task["result"]["artifacts"][0]["name"], "patch", "{task:#}");
    assert!(place.cli(&["diff", "long"]).ok().contains("+partial"), "partial work comes back");
    place.launch(&["sample", "--agent", "scripted"]);
    place.start_cli(&["logs", "-f", "--json", "long"]).wait_for("\"attempt\":2");
    place.cli(&["cancel", "long"]).ok();
}
