//! The worker in a container that another's launcher starts: told in its environment, with no mirror, no launcher of
//! ours and no folder of the host. The container is a gVisor sandbox of `runsc do`.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::process::Command;

use e2e::{Place, Process};
use protocol::{
    Secret,
    client::{Endpoint, OwnerClient},
    worker::NewWorker,
};
use rustix::process::Signal;
use serde_json::{Value, json};

const OWN_KEY: &str = "sk-launchers-own-key";

/// Whose the container is.
#[derive(Clone, Copy, PartialEq)]
enum As {
    Root,
    /// As images should be.
    PlainUser,
}

/// A worker's token, as `run-worker --sandbox fortress` would mint it.
fn token(place: &Place) -> Secret {
    let key = std::fs::read_to_string(place.home().join(".config/code-workers/.env")).unwrap();
    let key = key.trim().split_once('=').unwrap().1.trim_matches(['"', '\'']).to_owned();
    let door = Endpoint::Unix(place.run_folder().join("owner.sock"));
    let new = NewWorker { queue: "sample".parse().unwrap(), name: "fortress".to_owned() };
    let registered = async {
        let owner = OwnerClient::new(door, Secret::new(key)).unwrap();
        owner.register_worker(&new).await.unwrap().token
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(registered)
}

/// Starts the container.
fn container(place: &Place, whose: As, variables: &[(&str, &str)]) -> Process {
    let mut command = Command::new("runsc");
    command.arg("--root").arg(place.home().join("runsc"));
    command.args(["--network=none", "--host-uds=open", "--ignore-cgroups", "do", "--quiet", "env", "-i"]);
    command.args(["PATH=/usr/local/bin:/usr/bin:/bin", "RUST_LOG=info"]);
    command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
    if whose == As::PlainUser {
        command.args(["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"]);
    }
    command.arg(place.program("code-workers-worker")).arg("fortress").current_dir("/tmp");
    Process::start("container", &mut command)
}

fn worker(place: &Place, whose: As, token: &Secret) -> Process {
    let door = place.run_folder().join("worker.sock");
    if whose == As::PlainUser {
        // The relay's part, which lets a plain user in the container come to the door.
        open_to_all(place.home(), &door);
    }
    let door = format!("unix://{}", door.display());
    let told = [
        ("REPO_NAME", "sample"),
        ("FORTRESS_API_KEY", token.expose()),
        ("OPENCODE_API_KEY", OWN_KEY),
        ("COORDINATOR_URL", &door),
        ("CODE_WORKERS_AGENT", "command"),
    ];
    container(place, whose, &told)
}

fn open_to_all(home: &std::path::Path, door: &std::path::Path) {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};
    std::fs::set_permissions(door, Permissions::from_mode(0o666)).unwrap();
    for folder in door.ancestors().skip(1).take_while(|folder| folder.starts_with(home)) {
        std::fs::set_permissions(folder, Permissions::from_mode(0o711)).unwrap();
    }
}

fn run(place: &Place, id: &str, script: &str) -> Value {
    let sent = place.cli(&["send", "--wait", "--id", id, "--exec", "sample", "--", "bash", "-c", script]);
    let task = place.task(id);
    assert_eq!(sent.code, 0, "{sent:?} {task:#}");
    task
}

fn message(task: &Value) -> &str {
    task["result"]["message"].as_str().unwrap_or_default()
}

const LEAVE: &str = "pwd; id -u\n\
    for folder in /tmp /var/tmp /dev/shm; do\n\
      mkdir -p $folder/left/closed; echo x > $folder/left/closed/file; chmod 000 $folder/left/closed; done\n\
    mkdir closed; echo x > closed/file; chmod 000 closed; echo $TMPDIR > ~/kept; echo x > $TMPDIR/x\n\
    setsid sleep 1000 > /dev/null 2>&1 &\n\
    (setsid sleep 1001 > /dev/null 2>&1 &)";
const LOOK: &str = "pwd; find /tmp -maxdepth 1 -regex '/tmp/code-workers-[0-9a-f]*'\n\
    find /tmp /var/tmp /dev/shm -maxdepth 2 -user $(id -u) -not -path \"${PWD%/work}*\" 2> /dev/null\n\
    for stat in /proc/[0-9]*/stat; do\n\
      read -r _ name state _ < $stat && case $state$name in Z*) ;; *sleep*) echo $name $state;; esac\n\
    done";

#[test]
fn a_worker_takes_task_after_task_and_nothing_is_left_between_them() {
    for whose in [As::Root, As::PlainUser] {
        let mut place = Place::new();
        place.up();
        let repo = place.repo(
            "sample",
            &[
                ("README", "one\n"),
                (
                    ".code-workers/agent",
                    "#!/bin/sh\n[ \"$ANTHROPIC_API_KEY\" = sk-launchers-own-key ] && echo > new\n",
                ),
            ],
        );
        let mut worker = worker(&place, whose, &token(&place));
        let first = run(&place, "first", LEAVE);
        let said: Vec<_> = message(&first).lines().collect();
        let uid = if whose == As::Root { "1001" } else { "1234" };
        assert!(said[0].starts_with("/tmp/code-workers-") && said[1] == uid, "{first:#}");
        let second = run(&place, "second", LOOK);
        let seen: Vec<_> = message(&second).lines().collect();
        assert_ne!(said[0], seen[0]);
        assert_eq!(seen[1..], [seen[0].trim_end_matches("/work")], "{second:#}");

        let sent = place.cli(&["send", "--wait", "--id", "third", "sample", "go"]);
        assert_eq!(sent.code, 0, "{sent:?} {:#}", place.task("third"));
        place.cli(&["apply", "third", "--into", repo.to_str().unwrap()]).ok();
        let changed = place.git(&repo, &["diff", "--name-only", "main", "code-workers/third"]);
        assert_eq!(changed, "new\n");

        worker.signal(Signal::TERM);
        assert_eq!(worker.wait(), 0, "{}", worker.told());
    }
}

/// What an agent finds of its worker: words in what it can read, and what it may do to it.
const PROBE: &str = include_str!("fortress.py");

fn probe(place: &Place, whose: As) -> Value {
    place.repo("sample", &[("probe.py", PROBE)]);
    let token = token(place);
    let mut worker = worker(place, whose, &token);
    // Split, so that the probe does not find itself.
    let script = format!("./probe.py {} {}", &token.expose()[..12], &OWN_KEY[..12]);
    let task = run(place, "probe", &script);
    let seen = serde_json::from_str(message(&task).trim()).unwrap();
    let events = place.cli(&["logs", "probe"]).out;
    let said = events.contains("they are not kept apart");
    assert_eq!(said, whose == As::PlainUser, "{events}");
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait(), 0);
    assert_eq!(worker.told().contains("not kept apart"), whose == As::PlainUser, "{}", worker.told());
    seen
}

#[test]
fn as_root_the_agent_is_another_user() {
    let mut place = Place::new();
    place.up();
    let seen = probe(&place, As::Root);
    let wanted = json!({"leaks": [], "kill": "EPERM", "outbox": "EACCES", "caps": "0000000000000000"});
    assert_eq!(seen, wanted);
}

#[test]
fn as_a_plain_user_the_keys_are_out_of_reach_all_the_same_and_the_rest_is_said() {
    let mut place = Place::new();
    place.up();
    let seen = probe(&place, As::PlainUser);
    // It may end the worker, and look into what it writes here.
    let wanted = json!({"leaks": [], "kill": "no error", "outbox": "no error", "caps": "0000000000000000"});
    assert_eq!(seen, wanted);
}

#[test]
fn a_container_that_is_stopped_gives_its_task_back() {
    let mut place = Place::new();
    place.up();
    place.repo("sample", &[("README", "one\n")]);
    let mut worker = worker(&place, As::Root, &token(&place));
    let sent = place.cli(&["send", "--id", "long", "--exec", "sample", "--", "sleep", "1000"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    while place.task("long")["state"] != "running" {}
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait(), 0, "{}", worker.told());
    let task = place.task("long");
    assert!(["scheduled", "ready"].contains(&task["state"].as_str().unwrap()), "{task:#}");
}

#[test]
fn what_is_wrong_with_what_it_was_told_is_said_and_it_ends() {
    let mut place = Place::new();
    place.up();
    place.repo("sample", &[("README", "one\n")]);
    let mut mismatched = worker(&place, As::Root, &Secret::new("not-a-token"));
    assert_eq!(mismatched.wait(), 77);
    let told = mismatched.told();
    assert!(told.contains("FORTRESS_API_KEY") && told.contains("403"), "{told}");
    let mut untold = container(&place, As::Root, &[]);
    assert_eq!(untold.wait(), 64);
    assert!(untold.told().contains("REPO_NAME is not set"), "{}", untold.told());
}
