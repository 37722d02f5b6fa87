//! On the host: makes the place, runs the attacks in sandboxes, and says what came of them.

mod aftermath;
mod attempt;
mod bystander;
mod place;
mod process;
mod stand_in;
mod table;
mod upstream;
mod victim;
mod weak_doors;

use std::{collections::BTreeSet, io::Write as _, process::ExitCode};

use clap::Args;

use crate::{
    attack::{Attack, Finding},
    inside,
    line::Line,
};
use attempt::{Findings, Plan, Wall, attempt_all};
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
    /// Attack the sandboxes of Docker with runsc too, with this image of Docker's
    #[arg(long)]
    image: Option<String>,
    /// Only these attacks
    attacks: Vec<String>,
}

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
    let whole: Vec<_> =
        std::iter::once(Wall::Gvisor).chain(arguments.image.clone().map(Wall::Docker)).collect();
    let mut plans: Vec<_> =
        whole.iter().map(|wall| Plan { wall: wall.clone(), attacks: attacks.clone() }).collect();
    if arguments.weaken {
        // Without gVisor's own kernel nothing is tried on this machine: that takes a virtual one.
        let lines: BTreeSet<_> =
            attacks.iter().map(|attack| attack.line).filter(|line| *line != Line::Kernel).collect();
        plans.extend(lines.into_iter().map(|line| Plan {
            wall: Wall::Without(line),
            attacks: attacks.iter().copied().filter(|attack| attack.line == line).collect(),
        }));
    }
    let found_by = attempt_all(&place, plans)?;
    let empty = Findings::new();
    let outcomes = whole.iter().flat_map(|wall| attacks.iter().map(move |attack| (wall, attack)));
    let outcomes = outcomes.map(|(wall, attack)| Outcome {
        attack,
        launcher: wall.launcher(),
        held: found(found_by.get(wall).unwrap_or(&empty), attack),
        weakened: found_by
            .get(&Wall::Without(attack.line))
            .filter(|_| *wall == Wall::Gvisor)
            .map(|findings| found(findings, attack)),
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

fn found(findings: &Findings, attack: &Attack) -> Finding {
    // Who ends the one that was to report may have won.
    let silent = || Finding::Broken("nothing was reported".to_owned());
    findings.get(attack.name).cloned().unwrap_or_else(silent)
}
