//! `install.sh` and `uninstall.sh` on a machine that systemd runs, with a reboot between them.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;

use e2e::{Machine, REAL_KEY};

const INSTALL: &str = "/src/install.sh --from /programs --no-install";
const REPOSITORY: &str = "git init -q -b main demo; cd demo; echo a > a; git add a;
    git -c user.name=t -c user.email=t@localhost commit -qm first";

/// All that is on the machine's disk but what its system writes by itself, with who owns it and who may read it.
const FILES: &str = "find / -xdev \\( -path /var -o -path /tmp -o -path /etc/machine-id \\) -prune -o \
    -printf '%M %u %p\\n' | sort";

/// What the services' manager shows of each.
fn pids(machine: &Machine) -> String {
    machine.user("systemctl --user show -p Id,MainPID,ActiveState 'code-workers-*'").ok()
}

#[test]
fn services_come_back_after_a_reboot_and_leave_nothing_when_they_are_uninstalled() {
    let Some(machine) = Machine::boot() else { return };
    machine.user(REPOSITORY).ok();
    let before = machine.user(FILES).out;
    let said = machine.user(&format!("{INSTALL} --dry-run --repo demo=/home/u/demo")).ok();
    assert!(said.contains("would install") && said.contains("Nothing was changed"), "{said}");
    assert_eq!(machine.user(FILES).out, before);

    without_vsock(&machine);
    installs(&machine);
    relays_are_let_in(&machine);
    keys_are_credentials(&machine);
    the_credential_is_the_key(&machine);
    hardened(&machine);
    let done = machine.user("code-workers send --wait --exec demo -- sh -c 'echo by $(id -un)'").ok();
    assert_eq!(done, "by agent\n");

    a_task_outlives_its_launcher(&machine);

    // A task is at work when the machine goes down.
    machine.user("code-workers send --id over --exec demo -- sh -c 'echo begun; sleep 8; echo ended'").ok();
    machine.start(&["code-workers", "logs", "-f", "over"]).wait_for("begun");
    machine.reboot();
    let mut logs = machine.start(&["code-workers", "logs", "-f", "over"]);
    logs.wait_for("released: its launcher was stopped");
    logs.wait_for("ended");
    assert_eq!(logs.wait(), 0, "{}", logs.told());
    relays_are_let_in(&machine);
    let mut journal = machine.journal();
    journal.wait_for("over: succeeded");
    assert!(journal.told().contains("over: taken by"), "{}", journal.told());

    uninstalls(&machine, &before);
}

fn installs(machine: &Machine) {
    let install = format!("ANTHROPIC_API_KEY={REAL_KEY} {INSTALL} --vsock --repo demo=/home/u/demo");
    let said = machine.user(&install).ok();
    assert!(said.contains("sandboxes for: demo"), "{said}");
    assert!(said.contains("$ sudo rm /opt/bin/worker-up"), "{said}");
    assert!(!said.contains(REAL_KEY));
    machine.root("! test -e /opt/bin/worker-up").ok();
    let running = pids(machine);
    assert_eq!(running.matches("ActiveState=active").count(), 3, "{running}");
    let said = machine.user(&install).ok();
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(pids(machine), running, "what runs goes on");
    upgrades(machine, &running);
}

/// A program that is another one now, under the service that runs it, which alone is started anew.
fn upgrades(machine: &Machine, running: &str) {
    let newer = "mkdir /tmp/newer && ln -s /programs/* /tmp/newer && cd /tmp/newer &&
        cp --remove-destination /programs/code-workers-gateway . && echo >>code-workers-gateway";
    machine.user(newer).ok();
    let said = machine.user(&INSTALL.replace("/programs", "/tmp/newer")).ok();
    assert!(said.contains("restart code-workers-gateway") && said.contains("Done: 2 steps"), "{said}");
    let now = pids(machine);
    let changed = now.lines().zip(running.lines()).filter(|(now, before)| now != before).count();
    assert_eq!(changed, 1, "{running}\n{now}");
    machine.user(INSTALL).ok();
}

/// vsock on this machine belongs to who runs it: here the relays listen on a unix socket, and can do nothing else. All
/// else of their units is as it is installed.
fn without_vsock(machine: &Machine) {
    for (server, door) in [("coordinator", "worker"), ("gateway", "gateway")] {
        let unit = format!(
            "[Service]\nExecStart=\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX\nRuntimeDirectory=relay-{server}\n\
             ExecStart=/opt/code-workers/code-workers-relay --listen unix:///run/relay-{server}/door.sock \
             --dial unix:///run/code-workers-doors/{door}.sock\n"
        );
        let folder = format!("/etc/systemd/system/code-workers-{server}-relay.service.d");
        machine.root(&format!("mkdir {folder}; cat >{folder}/unix.conf <<'EOF'\n{unit}EOF")).ok();
    }
}

/// By another user than the one whose servers they are, and into the two doors alone.
fn relays_are_let_in(machine: &Machine) {
    for (server, path) in [("coordinator", "/tasks/lease/demo?request_id=1"), ("gateway", "/v1/messages")] {
        let ask = format!(
            "curl -s --retry 30 --retry-all-errors --retry-delay 1 -o /dev/null -w '%{{http_code}}' -X POST \
             --unix-socket /run/relay-{server}/door.sock 'http://relay{path}'"
        );
        assert_eq!(machine.root(&ask).ok(), "401", "{server}");
        let pid = format!("$(systemctl show -p MainPID --value code-workers-{server}-relay)");
        let seen = machine
            .root(&format!(
                "cd /proc/{pid}/root && ls -A home run/user run/code-workers-doors; stat -c %U /proc/{pid}"
            ))
            .ok();
        assert!(!seen.contains("owner.sock") && !seen.contains("\nu\n"), "{seen}");
        assert!(seen.contains("worker.sock") && seen.contains("gateway.sock"), "{seen}");
    }
}

fn keys_are_credentials(machine: &Machine) {
    let folder = ".config/code-workers";
    let modes = machine.user(&format!("stat -c '%a %n' {folder}/.env {folder}/credentials/*")).ok();
    assert!(modes.lines().count() == 4 && modes.lines().all(|line| line.starts_with("600 ")), "{modes}");
    let seen = machine.root(&format!("grep -l {REAL_KEY} /proc/[0-9]*/environ /proc/[0-9]*/cmdline")).out;
    assert_eq!(seen, "", "a key is in an environment or an argument list");
}

/// The coordinator is given its key by the services' manager, and that stands before `.env`.
fn the_credential_is_the_key(machine: &Machine) {
    let with = |key: &str| format!("FORTRESS_API_KEY={key} code-workers list");
    let set = "printf another >.config/code-workers/credentials/FORTRESS_API_KEY";
    machine.user(&format!("{set} && systemctl --user restart code-workers-coordinator")).ok();
    machine.user(&with("another")).ok();
    assert_eq!(machine.user("code-workers list").code, 6, "what .env says is refused");
    let said = machine.user(INSTALL).ok();
    assert!(said.contains("restart code-workers-coordinator"), "{said}");
    machine.user("code-workers list").ok();
    // And the gateway's: it has no other place to have it from.
    let links = machine.user("code-workers doctor demo").out;
    let real = links.lines().find(|line| line.contains("real keys")).unwrap();
    assert!(real.starts_with("ok"), "{links}");
}

/// And is not begun anew, though the services' manager starts the launcher anew.
fn a_task_outlives_its_launcher(machine: &Machine) {
    machine.user("code-workers send --id orphan --exec demo -- sh -c 'echo begun; sleep 4; echo ended'").ok();
    let mut logs = machine.start(&["code-workers", "logs", "-f", "orphan"]);
    logs.wait_for("begun");
    machine.user("systemctl --user kill --signal=KILL --kill-whom=main code-workers-launcher@demo").ok();
    assert_eq!(logs.wait(), 0, "{}", logs.told());
    assert_eq!(logs.told().matches("begun").count(), 1, "{}", logs.told());
    machine.journal().wait_for("code-workers-launcher@demo.service: Scheduled restart job");
}

fn hardened(machine: &Machine) {
    let stated = include_str!("../../docs/security.md");
    let units = ["coordinator", "gateway", "launcher@", "coordinator-relay", "gateway-relay"];
    for unit in units.map(|name| format!("code-workers-{name}")) {
        let row = stated.lines().find(|line| line.starts_with(&format!("| `{unit}`"))).unwrap();
        let most: f64 = row.split('|').nth(2).unwrap().trim().parse().unwrap();
        let unit = unit.replace('@', "@demo");
        let analyze =
            |manager| format!("systemd-analyze --{manager} security --no-pager {unit}.service | tail -n1");
        let system = unit.ends_with("-relay");
        let said =
            if system { machine.root(&analyze("system")) } else { machine.user(&analyze("user")) }.ok();
        let score: f64 = said.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(score <= most, "{unit}: {said}");
    }
    let seen =
        "ls -A /proc/$(pgrep -f ^/home/u/.local/bin/code-workers-gateway)/root/home/u/.config/code-workers";
    assert_eq!(machine.root(seen).out, "", "the gateway sees no key of the owner's");
}

fn uninstalls(machine: &Machine, before: &str) {
    let said = machine.user("/src/uninstall.sh").ok();
    assert!(said.contains("kept: /home/u/.config/code-workers"), "{said}");
    let left = machine.root("ps -eo args=; systemctl list-unit-files 'code-workers*' --no-legend").out;
    assert!(!left.contains("code-workers") && !left.contains("runsc"), "{left}");
    let said = machine.user("/src/uninstall.sh --purge").ok();
    assert!(!said.contains("kept"), "{said}");
    let after = machine.user(FILES).out;
    let only_in = |one: &str, other: &str| {
        let other: BTreeSet<_> = other.lines().collect();
        one.lines().filter(|line| !other.contains(line)).map(str::to_owned).collect::<Vec<_>>()
    };
    let left = only_in(&after, before);
    assert!(left.iter().all(|line| line.contains("-relay.service.d")), "{left:?}");
    let gone = only_in(before, &after);
    assert!(gone.len() == 1 && gone[0].ends_with("/opt/bin/worker-up"), "{gone:?}");
    assert!(!machine.user("loginctl show-user u -p Linger").out.contains("yes"), "lingering is as it was");
}
