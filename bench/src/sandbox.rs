//! What a waiting sandbox costs: from the lease to the agent's start and to its first byte, both without git, beside
//! a bare start in the same sandbox; and the memory of many that wait.

use std::{collections::HashMap, fs, time::Duration};

use e2e::Place;
use serde_json::Value;

use crate::{cold::row, table::Row};

/// Starts a program as often as one likes inside, and says how long each took to its first byte, in microseconds.
const BARE: &str = "use Time::HiRes 'time'; for (1..20) { my $t = time; open my $p, '-|', 'sh', '-c', 'echo x'; \
                    sysread $p, my $x, 1; printf \"bare_us=%d\\n\", (time - $t) * 1e6; close $p }";

/// The row of the spawns, then one for each count of waiting sandboxes.
pub(crate) fn run(waiting: &[usize], rounds: usize) -> Vec<Row> {
    let mut rows = spawns(rounds);
    rows.extend(waiting.iter().map(|count| memory(*count)));
    rows
}

fn place() -> Place {
    let place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("a.txt", "a\n")]);
    place
}

fn spawns(rounds: usize) -> Vec<Row> {
    let mut place = place();
    let (mut spawns, mut first, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // Each in a sandbox that waited for it.
        place.launch(&["sample", "--once"]).wait_for("1 sandbox waits");
        let id = format!("spawn-{round}");
        let sent = [
            "send",
            "--wait",
            "--id",
            &id,
            "--exec",
            "sample",
            "--",
            "sh",
            "-c",
            r#"echo x; exec perl -e "$0""#,
            BARE,
        ];
        let ran = place.cli(&sent);
        assert_eq!(ran.code, 0, "{ran:?}");
        let us = ran.out.lines().filter_map(|line| line.strip_prefix("bare_us=")?.parse().ok());
        bare.extend(us.map(Duration::from_micros));
        let (spawn, byte) = from_lease(&place.cli(&["logs", "--json", &id]).ok());
        spawns.push(spawn);
        first.push(byte);
    }
    let rows = [("to the spawn", spawns), ("to a byte", first), ("bare to a byte", bare)];
    rows.map(|(case, times)| {
        let system = if case.starts_with("bare") { "runsc" } else { "code-workers" };
        row(system, case, times)
    })
    .into()
}

/// From the lease to the start of the program and to its first line, less the checkout: by the clocks of the
/// coordinator and of the worker, which are one machine's.
fn from_lease(log: &str) -> (Duration, Duration) {
    let events: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let at = |what: &dyn Fn(&Value) -> bool| -> f64 {
        let event =
            events.iter().find(|event| what(event)).unwrap_or_else(|| panic!("an event is missing: {log}"));
        let text = event["at"].as_str().expect("every event has a time");
        seconds(text)
    };
    let lease = at(&|event| event["kind"] == "state" && event["state"] == "leased");
    let stage = |name: &'static str| at(&move |event| event["kind"] == "stage" && event["stage"] == name);
    let byte = at(&|event| event["kind"] == "output");
    let git = stage("agent") - stage("checkout");
    let less = |end: f64| Duration::from_secs_f64((end - lease - git).max(0.0));
    (less(stage("agent")), less(byte))
}

/// Seconds of the day of an RFC 3339 time.
fn seconds(text: &str) -> f64 {
    let time = text.split('T').nth(1).expect("a time").trim_end_matches('Z');
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().expect("a number"))
}

/// Proportional memory of all that belongs to sandboxes: keepers, relays, runsc's processes.
fn memory(count: usize) -> Row {
    let mut place = place();
    let said = if count == 1 { "1 sandbox waits".to_owned() } else { format!("{count} sandboxes wait") };
    place.launch(&["sample", "--parallel", &count.to_string()]).wait_for(&said);
    let folder = place.run_folder().join("sandboxes");
    let folder = folder.to_str().expect("a plain path");
    let mut by_program: HashMap<&'static str, f64> = HashMap::new();
    for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if let (true, Some(mib)) = (line.contains(folder), pss(&entry.path())) {
            let names = [
                ("runsc-sandbox", "sentry_mb"),
                ("runsc-gofer", "gofer_mb"),
                ("code-workers-relay", "relays_mb"),
                ("--keep", "keepers_mb"),
            ];
            let name =
                names.iter().find(|(part, _)| line.contains(part)).map_or("runsc_mb", |(_, name)| name);
            *by_program.entry(name).or_default() += mib;
        }
    }
    let all: f64 = by_program.values().sum();
    let mut more: Vec<_> = by_program.into_iter().collect();
    more.sort_by_key(|(name, _)| *name);
    let each = all / f64::from(u32::try_from(count).expect("few"));
    Row {
        system: "code-workers".to_owned(),
        case: format!("{count} waiting"),
        clients: count,
        rounds: 1,
        more: [("all_mb", all), ("each_mb", each)].into_iter().chain(more).collect(),
        ..Row::default()
    }
}

/// MiB: proc_pid_smaps(5).
fn pss(process: &std::path::Path) -> Option<f64> {
    let text = fs::read_to_string(process.join("smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}
