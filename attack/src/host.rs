//! On the host: makes the place, runs the attacks in sandboxes, and says what came of them.

mod aftermath;
mod attempt;
mod bystander;
mod image;
mod launcher;
mod part;
mod place;
mod process;
mod shared;
mod stand_in;
mod table;
mod upstream;
mod victim;
mod weak_doors;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;

use crate::{
    attack::{Attack, Finding},
    inside,
    line::Line,
};
use attempt::{Docker, Findings, Plan, Wall, attempt_all};
use image::{Image, Network};
pub(crate) use launcher::Launcher;
use place::Place;
use table::{NotTried, Report, Row};

#[derive(Debug, Args)]
pub(crate) struct HostArguments {
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// Try each attack once more in a sandbox without the line that it is held by (needs root)
    #[arg(long)]
    weaken: bool,
    /// In Docker's sandboxes take this image, instead of one made of this machine's programs
    #[arg(long)]
    image: Option<String>,
    /// Attack Docker's sandboxes on a network as well, with this runtime of Docker's, a gVisor that has one
    #[arg(long, value_name = "RUNTIME")]
    network_runtime: Option<String>,
    /// What stands in for a fortress's launcher, and leads its sandboxes to this place's coordinator
    #[arg(long, hide = true)]
    fortress: Option<PathBuf>,
    /// Only this launcher, as the user that this is
    #[arg(long, hide = true)]
    part: Option<Launcher>,
    /// Only these attacks
    attacks: Vec<String>,
}

/// Of Docker.
const RUNTIME: &str = "runsc";
/// Of results that are handed over at the coordinator's door.
const ONCE: &str = "it is the host that judges it, whoever stood the sandbox up: it is tried with gvisor";
/// Of Docker's runtimes, not every gVisor has a network.
const NO_NETWORK: &str =
    "no runtime of Docker's was named that has a network: code-workers-attack host --network-runtime RUNTIME";
/// A fortress's doors are its own shims.
const NO_FORTRESS: &str = "a fortress leads its sandboxes to this machine's coordinator, and not to the one that is made to be attacked";

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
    let report = match arguments.part {
        Some(part) => Report { attacks: directly(&[part], &attacks, arguments, &Docker::default())? },
        None => every(&attacks, arguments)?,
    };
    say(&if arguments.json { report.json()? } else { report.table() })?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Against every launcher that this machine has.
fn every(attacks: &[&'static Attack], arguments: &HostArguments) -> anyhow::Result<Report> {
    let root = rustix::process::geteuid().is_root();
    let mut launchers = vec![if root { Launcher::Gvisor } else { Launcher::GvisorRootless }];
    let mut rows = Vec::new();
    let not_here = |launcher: Launcher, why: &str| {
        let row = |attack: &&Attack| match launcher.promises(attack) {
            Ok(()) => Row::not_tried(launcher, attack, NotTried::NotHere, why),
            Err(why) => Row::not_tried(launcher, attack, NotTried::NotPromised, why),
        };
        attacks.iter().map(row).collect::<Vec<_>>()
    };
    let image = arguments.image.is_none().then(|| Image::make(RUNTIME)).transpose();
    let made = image.as_ref().map(|image| arguments.image.as_deref().or(image.as_ref().map(Image::name)));
    match &made {
        Ok(_) => launchers.push(Launcher::Docker),
        Err(error) => rows.extend(not_here(Launcher::Docker, &format!("{error:#}"))),
    }
    let network = match (&made, &arguments.network_runtime) {
        (Ok(_), Some(runtime)) => Network::make(runtime),
        (Err(error), _) => Err(anyhow::anyhow!("{error:#}")),
        (Ok(_), None) => Err(anyhow::anyhow!(NO_NETWORK)),
    };
    match &network {
        Ok(_) => launchers.push(Launcher::DockerNetwork),
        Err(error) => rows.extend(not_here(Launcher::DockerNetwork, &format!("{error:#}"))),
    }
    let docker = Docker {
        image: made.as_ref().ok().copied().flatten().unwrap_or_default(),
        network: network.as_ref().ok(),
    };
    if arguments.fortress.is_some() {
        launchers.push(Launcher::Fortress);
    } else {
        rows.extend(not_here(Launcher::Fortress, NO_FORTRESS));
    }
    let others = [root.then_some(Launcher::GvisorRootless), Some(Launcher::None)];
    // Beside the others: most of the time each waits for what it attacks.
    let own = std::thread::scope(|scope| {
        let others = others.map(|other| {
            let other = other?;
            Some((other, scope.spawn(move || part::run(other, &arguments.attacks))))
        });
        let own = directly(&launchers, attacks, arguments, &docker);
        for (other, part) in others.into_iter().flatten() {
            let tried = part.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread broke")));
            let tried = tried.map(|report| report.attacks);
            rows.extend(tried.unwrap_or_else(|error| not_here(other, &format!("{error:#}"))));
        }
        own
    });
    rows.extend(own?);
    rows.sort_by_key(|row| row.launcher);
    Ok(Report { attacks: rows })
}

/// In a place of this user's own.
fn directly(
    launchers: &[Launcher],
    attacks: &[&'static Attack],
    arguments: &HostArguments,
    docker: &Docker<'_>,
) -> anyhow::Result<Vec<Row>> {
    let mut place = Place::make(arguments.fortress.as_deref(), launchers.contains(&Launcher::None))?;
    let own = arguments.part.is_none();
    let why_not = |launcher: Launcher, attack: &Attack| match launcher.promises(attack) {
        Err(why) => Some((NotTried::NotPromised, why)),
        Ok(()) if inside::is_handed(attack) && !launcher.is_first(own) => Some((NotTried::Once, ONCE)),
        Ok(()) => None,
    };
    let mut by_wall: BTreeMap<Wall, Vec<_>> = BTreeMap::new();
    for launcher in launchers {
        for attack in attacks.iter().filter(|attack| why_not(*launcher, attack).is_none()).copied() {
            by_wall.entry(Wall::of(*launcher, attack)).or_default().push(attack);
        }
    }
    let mut plans: Vec<_> = by_wall.into_iter().map(|(wall, attacks)| Plan { wall, attacks }).collect();
    if arguments.weaken {
        // Without gVisor's own kernel nothing is tried on this machine: that takes a virtual one.
        let lines: BTreeSet<_> =
            attacks.iter().map(|attack| attack.line).filter(|line| *line != Line::Kernel).collect();
        plans.extend(lines.into_iter().map(|line| Plan {
            wall: Wall::Without(line),
            attacks: attacks.iter().copied().filter(|attack| attack.line == line).collect(),
        }));
    }
    let mut found_by = attempt_all(&place, plans, docker)?;
    for (wall, findings) in &mut found_by {
        aftermath::judge_logs(&mut place, wall, findings);
    }
    let empty = Findings::new();
    let row = |launcher: Launcher, attack: &Attack| {
        if let Some((kind, why)) = why_not(launcher, attack) {
            return Row::not_tried(launcher, attack, kind, why);
        }
        let findings = found_by.get(&Wall::of(launcher, attack)).unwrap_or(&empty);
        let row = Row::new(launcher, attack, found(findings, attack));
        let weakened = found_by.get(&Wall::Without(attack.line)).filter(|_| launcher == Launcher::Gvisor);
        match weakened {
            Some(findings) => row.weakened(found(findings, attack)),
            None => row,
        }
    };
    let row = &row;
    Ok(launchers.iter().flat_map(|launcher| attacks.iter().map(|attack| row(*launcher, attack))).collect())
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
