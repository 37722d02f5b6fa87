//! The battery of attacks: every one is held by a sandbox, and succeeds in one without the line that holds it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
};

use e2e::{Disk, Image, Place, Vm, kernel_folder};
use serde_json::Value;

#[test]
fn no_attack_gets_out_and_each_would_without_its_line() {
    let place = Place::new();
    let docker = Image::with_docker().is_some();
    let network = Image::with_runtime("runsc-host").is_some();
    let mut attack = place.command("code-workers-attack");
    attack
        .args(["host", "--json", "--weaken", "--network-runtime", "runsc-host", "--fortress"])
        .arg(fortress(&place));
    let output = attack.output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let attacks = told["attacks"].as_array().unwrap();
    // What gVisor's own kernel holds takes another kernel to succeed; the lines are taken from root's gVisor.
    let can_fail = |attack: &Value| {
        attack["weakened"]["broken"] == true
            || attack["held_by"] == "kernel"
            || attack["launcher"] != "gvisor"
    };
    let told_of = |attack: &Value| {
        attack["not_tried"] == "not_promised"
            || (attack["not_tried"] == "once" && attack["launcher"] != "gvisor")
            || (attack["launcher"] == "docker" && !docker)
            || (attack["launcher"] == "docker-network" && !network)
    };
    let is_good = |attack: &&Value| match attack["held"].as_bool() {
        Some(held) => held && can_fail(attack),
        None => told_of(attack) && attack["detail"].as_str().is_some_and(|why| !why.is_empty()),
    };
    let bad: Vec<_> = attacks.iter().filter(|attack| !is_good(attack)).collect();
    assert!(bad.is_empty() && output.status.success(), "{bad:#?}");
    let held = |launcher: &str| {
        attacks.iter().filter(|attack| attack["launcher"] == launcher && attack["held"] == true).count()
    };
    let all = held("gvisor");
    assert!(all >= 150, "{all} attacks");
    // Beside the hostile results that are tried once.
    let once = |attack: &&Value| attack["not_tried"] == "once" && attack["launcher"] == "gvisor-rootless";
    let each = all - attacks.iter().filter(once).count();
    assert_eq!((held("gvisor-rootless"), held("docker")), (each, if docker { each } else { 0 }));
    // On a network, other containers and the host are in sight: that is told, and nothing else.
    let in_sight: Vec<_> = attacks
        .iter()
        .filter(|attack| attack["launcher"] == "docker-network" && attack["not_tried"] == "not_promised")
        .map(|attack| attack["name"].as_str().unwrap())
        .collect();
    assert_eq!(in_sight, ["neighbours", "interfaces"]);
    assert_eq!(held("docker-network"), if network { each - in_sight.len() } else { 0 });
    assert!(held("fortress") >= 40 && held("none") >= 40, "{} {}", held("fortress"), held("none"));
}

/// Stands in for a fortress's launcher: gVisor by `runsc do`, with the coordinator behind a port as its shim would be.
fn fortress(place: &Place) -> PathBuf {
    let (agent, home) = (place.home().join("agent"), place.home().display().to_string());
    let script = format!(
        "#!/bin/bash\n\
         shift 3\n\
         while [ $# -gt 0 ]; do variables+=(\"$2\"); shift 2; done\n\
         door=$HOME/.local/share/code-workers/run/worker.sock\n\
         exec runsc --root {home}/runsc --network=none --host-uds=open --ignore-cgroups do --quiet \\\n\
           sh -c '{} --listen tcp://127.0.0.1:7222 --dial unix://\"$0\" & exec env -i PATH=/usr/bin:/bin \\\n\
           COORDINATOR_URL=http://127.0.0.1:7222 \"$@\" {} fortress' \"$door\" \"${{variables[@]}}\"\n",
        place.program("code-workers-relay").display(),
        place.program("code-workers-worker").display(),
    );
    fs::write(&agent, script).unwrap();
    fs::set_permissions(&agent, Permissions::from_mode(0o755)).unwrap();
    agent
}

/// Stands in for runsc: kills a sandbox as soon as it has a task.
const KILLING: &str = r#"#!/bin/bash
for word; do [ "$last" = --bundle ] && outbox=${word%/*}/outbox; last=$word; done
if [ -d "$outbox" ]; then
  (while [ -d "$outbox" ] && [ ! -e "$outbox/lease.json" ]; do sleep 0.05; done
   [ ! -e "$outbox/lease.json" ] || kill -9 $$) <&- >/dev/null 2>&1 &
fi
exec runsc "$@"
"#;

#[test]
fn a_battery_whose_task_nobody_will_take_again_says_so() {
    let place = Place::new();
    let killing = place.home().join("runsc");
    fs::write(&killing, KILLING).unwrap();
    fs::set_permissions(&killing, Permissions::from_mode(0o755)).unwrap();
    let mut attack = place.command("code-workers-attack");
    attack.args(["host", "--part", "gvisor", "capabilities"]).env("CODE_WORKERS_RUNSC", killing);
    let output = attack.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("nobody will take its task again: killed"), "{told}");
}

/// Root, with perl for the calls that have no other name.
const IN_THE_VM: &str = r#"
export PATH=$PATH:/opt/code-workers LD_LIBRARY_PATH=/opt/code-workers
mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null
mkfifo /run/served
code-workers-attack serve --abstract-socket attacked --shared 4242 >/run/served &
head -c 1 /run/served
code-workers-attack inside "$(cat /run/job/orders)"
"#;

#[test]
fn what_gvisors_kernel_holds_succeeds_against_another_kernel() {
    let Some(kernel) = kernel_folder() else { return };
    let place = Place::new();
    let list = place.command("code-workers-attack").arg("list").output().unwrap().stdout;
    let list = String::from_utf8(list).unwrap();
    let names: Vec<_> = list
        .lines()
        .filter(|line| line.ends_with("(without kernel)"))
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    assert!(names.len() > 15, "{list}");
    let mut programs = perl();
    programs.push(place.program("code-workers-attack"));
    let disk = Disk::make(place.home(), &programs);
    let orders = serde_json::json!({
        "attacks": names, "without": "kernel", "target": { "abstract_socket": "attacked", "shared": { "hosts": 4242, "left": 4243 } },
    });
    let job = [("orders", orders.to_string())];
    let mut vm = Vm::boot(&kernel, &disk, &place.home().join("vm"), IN_THE_VM, &job);
    let told: Vec<_> =
        names.iter().map(|name| vm.console().wait_for(&format!("\"attack\":\"{name}\""))).collect();
    let held: Vec<_> = told.iter().filter(|line| !line.contains("\"outcome\":\"broken\"")).collect();
    assert!(held.is_empty(), "{held:#?}");
}

/// This machine's perl, and the libraries that it is linked to.
fn perl() -> Vec<PathBuf> {
    let libraries = Command::new("ldd").arg("/usr/bin/perl").output().unwrap().stdout;
    let libraries = String::from_utf8(libraries).unwrap();
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    libraries.chain(["/usr/bin/perl".into()]).collect()
}
