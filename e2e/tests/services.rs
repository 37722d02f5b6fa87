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

    installs(&machine);
    keys_are_credentials(&machine);
    the_credential_is_the_key(&machine);
    hardened(&machine);
    let done = machine.user("code-workers send --wait --exec demo -- sh -c 'echo by $(id -un)'").ok();
    assert_eq!(done, "by agent\n");

    // A task is at work when the machine goes down.
    machine.user("code-workers send --id over --exec demo -- sh -c 'echo begun; sleep 8; echo ended'").ok();
    machine.start(&["code-workers", "logs", "-f", "over"]).wait_for("begun");
    machine.reboot();
    let mut logs = machine.start(&["code-workers", "logs", "-f", "over"]);
    logs.wait_for("released: its launcher was stopped");
    logs.wait_for("ended");
    assert_eq!(logs.wait(), 0, "{}", logs.told());
    let mut journal = machine.journal();
    journal.wait_for("over: succeeded");
    assert!(journal.told().contains("over: taken by"), "{}", journal.told());

    uninstalls(&machine, &before);
}

fn installs(machine: &Machine) {
    let install = format!("ANTHROPIC_API_KEY={REAL_KEY} {INSTALL} --repo demo=/home/u/demo");
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
}

fn hardened(machine: &Machine) {
    let stated = include_str!("../../docs/security.md");
    for unit in ["code-workers-coordinator", "code-workers-gateway", "code-workers-launcher@"] {
        let row = stated.lines().find(|line| line.starts_with(&format!("| `{unit}"))).unwrap();
        let most: f64 = row.split('|').nth(2).unwrap().trim().parse().unwrap();
        let unit = unit.replace('@', "@demo");
        let said =
            machine.user(&format!("systemd-analyze --user security --no-pager {unit} | tail -n1")).ok();
        let score: f64 = said.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(score <= most, "{unit}: {said}");
    }
    let seen = "ls -A /proc/$(pgrep -f bin/code-workers-gateway)/root/home/u/.config/code-workers";
    assert_eq!(machine.root(seen).out, "", "the gateway sees no key of the owner's");
}

fn uninstalls(machine: &Machine, before: &str) {
    let said = machine.user("/src/uninstall.sh").ok();
    assert!(said.contains("kept: /home/u/.config/code-workers"), "{said}");
    let left = machine
        .root("ps -u u -o args=; systemctl --user -M u@ list-unit-files 'code-workers*' --no-legend")
        .out;
    assert!(!left.contains("code-workers") && !left.contains("runsc"), "{left}");
    let said = machine.user("/src/uninstall.sh --purge").ok();
    assert!(!said.contains("kept"), "{said}");
    let after = machine.user(FILES).out;
    let only_in = |one: &str, other: &str| {
        let other: BTreeSet<_> = other.lines().collect();
        one.lines().filter(|line| !other.contains(line)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(only_in(&after, before), [""; 0], "is left");
    let gone = only_in(before, &after);
    assert!(gone.len() == 1 && gone[0].ends_with("/opt/bin/worker-up"), "{gone:?}");
    assert!(!machine.user("loginctl show-user u -p Linger").out.contains("yes"), "lingering is as it was");
}
