//! On the host: makes the place, runs the attacks in sandboxes, and says what came of them.

mod place;
mod process;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;

use crate::{
    attack::{Attack, Finding, Told},
    inside::{self, Orders},
    line::Line,
    weaken::Weakening,
};
use place::Place;
use table::{Outcome, Report};

#[derive(Debug, Args)]
pub(crate) struct HostArguments {
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// Try each attack once more in a sandbox without the line that it is held by (needs root)
    #[arg(long)]
    weaken: bool,
    /// Only these attacks
    attacks: Vec<String>,
}

/// Seconds that one task of attacks may take.
const TASK_SECONDS: &str = "120";

/// Exits 1 when an attack was not held, or a weakened one was.
pub(crate) fn run(arguments: &HostArguments) -> anyhow::Result<ExitCode> {
    let known: BTreeSet<_> = inside::all().map(|attack| attack.name).collect();
    let unknown: Vec<_> = arguments.attacks.iter().filter(|name| !known.contains(name.as_str())).collect();
    anyhow::ensure!(
        unknown.is_empty(),
        "there is no attack {unknown:?}; `code-workers-attack list` names all"
    );
    let wanted =
        |attack: &&Attack| arguments.attacks.is_empty() || arguments.attacks.iter().any(|n| n == attack.name);
    let attacks: Vec<_> = inside::all().filter(wanted).collect();
    let place = Place::make()?;
    let held = attempt(&place, &attacks, None)?;
    let mut weakened = BTreeMap::new();
    if arguments.weaken {
        let lines: BTreeSet<_> = attacks.iter().map(|attack| attack.line).collect();
        for line in lines {
            let of_line: Vec<_> = attacks.iter().copied().filter(|attack| attack.line == line).collect();
            weakened.extend(attempt(&place, &of_line, Some(line))?);
        }
    }
    let outcomes = attacks.iter().map(|attack| Outcome {
        attack,
        launcher: "gvisor",
        held: found(&held, attack),
        weakened: arguments.weaken.then(|| found(&weakened, attack)),
    });
    let report = Report::of(outcomes);
    say(&if arguments.json { report.json()? } else { report.table() })?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Names every attack.
pub(crate) fn list() -> anyhow::Result<ExitCode> {
    let lines = inside::all().map(|attack| {
        format!("{:12} {:28} {} (without {})\n", attack.category, attack.name, attack.tries, attack.line)
    });
    say(&lines.collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn complain(what: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{what}");
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn found(findings: &BTreeMap<String, Finding>, attack: &Attack) -> Finding {
    // Who ends the one that was to report may have won.
    let silent = || Finding::Broken("nothing was reported".to_owned());
    findings.get(attack.name).cloned().unwrap_or_else(silent)
}

/// Runs these attacks as one task, in a sandbox without that line.
fn attempt(
    place: &Place,
    attacks: &[&Attack],
    without: Option<Line>,
) -> anyhow::Result<BTreeMap<String, Finding>> {
    let queue = without.map_or("whole".to_owned(), |line| format!("without-{line}"));
    place.register(&queue)?;
    let runsc = without.map(|line| weak_runsc(place, line)).transpose()?;
    let launcher = place.launch(&[&queue, "--once"], runsc.as_deref())?;
    let names = attacks.iter().map(|attack| attack.name.to_owned()).collect();
    let orders = serde_json::to_string(&Orders { attacks: names, without })?;
    let sent = place.cli(&["send", "--wait", "--id", &queue, "--timeout", TASK_SECONDS, &queue, &orders])?;
    let logs = place.cli(&["logs", "--json", &queue])?;
    drop(launcher);
    let told: Vec<_> = logs.out.lines().filter_map(told).collect();
    anyhow::ensure!(!told.is_empty(), "{queue} told nothing:\n{}{}{}", sent.out, sent.err, logs.out);
    Ok(told.into_iter().map(|told| (told.attack, told.finding)).collect())
}

/// A line of the stream that is a report.
fn told(event: &str) -> Option<Told> {
    let event: serde_json::Value = serde_json::from_str(event).ok()?;
    serde_json::from_str(event["text"].as_str()?).ok()
}

/// A program in runsc's place.
fn weak_runsc(place: &Place, line: Line) -> anyhow::Result<PathBuf> {
    let folder = place.home().join("weakened").join(line.name());
    fs::create_dir_all(&folder)?;
    let weakening = Weakening {
        line,
        runsc: real_runsc()?,
        program: std::env::current_exe()?,
        home: place.home().to_owned(),
        key: Place::real_key().to_owned(),
        loopback: place.target.loopback.clone(),
    };
    let (file, script) = (folder.join("weakening.json"), folder.join("runsc"));
    fs::write(&file, serde_json::to_vec(&weakening)?)?;
    let text =
        format!("#!/bin/sh\nexec '{}' weaken '{}' -- \"$@\"\n", weakening.program.display(), file.display());
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

fn real_runsc() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("CODE_WORKERS_RUNSC").map_or_else(|| PathBuf::from("runsc"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(&named)).find(|file| Path::is_file(file));
    found.context("there is no runsc on PATH")
}
