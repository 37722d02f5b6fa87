//! One task of attacks, in a sandbox of its own.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context as _;
use protocol::task::TaskState;

use super::{
    aftermath, bystander, image::Network, launcher::Launcher, place::Place, process::Server, shared,
    victim::Victim, weak_doors,
};
use crate::{
    attack::{Attack, Finding, Told},
    inside::{self, Orders, resources::SHORT},
    line::Line,
    weaken::Weakening,
};

/// What came out, by the attacks' names.
pub(super) type Findings = BTreeMap<String, Finding>;

/// What is attacked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wall {
    /// What this launcher stands up.
    Whole(Launcher),
    /// The same, for what takes a task of its own.
    Ending(Launcher, Line),
    /// What gVisor's does without one line.
    Without(Line),
}

impl Wall {
    /// What is missing in it.
    fn without(&self) -> Option<Line> {
        if let Self::Without(line) = self { Some(*line) } else { None }
    }

    fn launcher(&self) -> Launcher {
        match self {
            Self::Whole(launcher) | Self::Ending(launcher, _) => *launcher,
            Self::Without(_) => Launcher::Gvisor,
        }
    }

    /// Where an attack is tried with this launcher.
    pub(super) fn of(launcher: Launcher, attack: &Attack) -> Self {
        if attack.line.takes_a_task() { Self::Ending(launcher, attack.line) } else { Self::Whole(launcher) }
    }

    /// A queue of its own.
    fn queue(&self) -> String {
        match self {
            Self::Whole(launcher) => format!("whole-{launcher}"),
            Self::Ending(launcher, line) => format!("{line}-{launcher}"),
            Self::Without(line) => format!("without-{line}"),
        }
    }
}

/// What one task is to try.
pub(super) struct Plan<'a> {
    pub(super) wall: Wall,
    pub(super) attacks: Vec<&'a Attack>,
}

/// What sandboxes in Docker need; nothing where there are none.
#[derive(Default)]
pub(super) struct Docker<'a> {
    pub(super) image: &'a str,
    pub(super) network: Option<&'a Network>,
}

/// Sandboxes at once.
const AT_ONCE: usize = 4;
/// Seconds that one task of attacks may take.
const TASK_SECONDS: &str = "120";

/// Runs all plans, a few at a time.
pub(super) fn attempt_all(
    place: &Place,
    plans: Vec<Plan<'_>>,
    docker: &Docker<'_>,
) -> anyhow::Result<BTreeMap<Wall, Findings>> {
    let (plans, found) = (Mutex::new(plans.into_iter()), Mutex::new(BTreeMap::new()));
    let next = || plans.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(plan) = next() {
            let findings = attempt(place, &plan, docker)?;
            found.lock().unwrap_or_else(PoisonError::into_inner).insert(plan.wall, findings);
        }
        anyhow::Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let ended = |worker: thread::ScopedJoinHandle<'_, _>| worker.join();
        workers
            .into_iter()
            .try_for_each(|worker| ended(worker).unwrap_or_else(|_| anyhow::bail!("a thread broke")))
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn attempt(place: &Place, plan: &Plan<'_>, docker: &Docker<'_>) -> anyhow::Result<Findings> {
    let (queue, without) = (plan.wall.queue(), plan.wall.without());
    place.register(&queue)?;
    let mut target = place.target.clone();
    target.careless = without == Some(Line::CleanRepository);
    // What is done to a neighbour in one sandbox is not to be seen by another.
    let victim =
        without.is_none_or(Line::is_a_doors).then(|| place.victim(&format!("victim-{queue}"))).transpose()?;
    target.neighbour = victim.as_ref().map(|victim| victim.neighbour.clone()).unwrap_or_default();
    target.leaked = victim.as_ref().map(Victim::leaked).unwrap_or_default();
    let mut bystander = place.bystander_door.clone();
    let mut runsc = None;
    if let Some(line) = without {
        let doors = place.home().join("weakened").join(line.name()).join("doors");
        if let Some(victim) = victim.as_ref() {
            weak_doors::open(&doors, line, &place.behind(victim))?;
        }
        if line == Line::DoorLimits {
            bystander = Some(doors.join(protocol::inside::COORDINATOR_DOOR));
        }
        runsc = Some(weak_runsc(place, line, &doors)?);
    }
    // Alive until their results are judged.
    let handed = handed(place, plan, &queue)?;
    target.handed = handed.iter().map(|(name, victim)| ((*name).to_owned(), victim.leaked())).collect();
    let launcher = plan.wall.launcher();
    let mut arguments = vec![queue.as_str()];
    arguments.extend(kind(launcher, docker));
    let launched = place.launch(&arguments, runsc.as_deref())?;
    let attacks = plan.attacks.iter().map(|attack| attack.name.to_owned()).collect();
    let orders = serde_json::to_string(&Orders { attacks, without, target })?;
    let agent = if launcher == Launcher::Fortress { "command" } else { "attack" };
    let seconds = if matches!(plan.wall, Wall::Ending(_, Line::RunTime)) { SHORT } else { TASK_SECONDS };
    let send = ["send", "--wait", "--id", &queue, "--timeout", seconds, "--agent", agent, &queue, &orders];
    let over = AtomicBool::new(false);
    let (sent, starved, given_back) = thread::scope(|scope| {
        let watch = scope.spawn(|| bystander.and_then(|door| bystander::watch(&door, &over)));
        let given_back = scope.spawn(|| given_back(place, &launched, &queue, &over));
        let sent = place.cli(&send);
        over.store(true, Ordering::Relaxed);
        (sent, watch.join(), given_back.join())
    });
    let given_back = given_back.unwrap_or_else(|_| anyhow::bail!("a thread broke"))?;
    let (sent, logs) = (sent?, place.cli(&["logs", "--json", &queue])?);
    drop(launched);
    let told: Vec<_> = logs.out.lines().filter_map(told).collect();
    let mut findings: Findings = told.into_iter().map(|told| (told.attack, told.finding)).collect();
    if let (Wall::Ending(_, line), [attack], true) = (&plan.wall, &*plan.attacks, findings.is_empty()) {
        let ended = given_back.as_ref().map_or_else(|| place.task(&queue), |task| Ok(task.clone()))?;
        findings.insert(attack.name.to_owned(), ending(*line, &ended));
    }
    if let Some(task) = given_back.filter(|_| findings.is_empty()) {
        let reason = task["reason"].as_str().unwrap_or("it says no reason");
        anyhow::bail!("{queue}: its one sandbox is gone, and nobody will take its task again: {reason}");
    }
    anyhow::ensure!(!findings.is_empty(), "{queue} told nothing:\n{}{}{}", sent.out, sent.err, logs.out);
    if let (Some(finding), Ok(Some(why))) = (findings.get_mut("slow-loris"), starved) {
        *finding = Finding::Broken(why);
    }
    if let Some(finding) = findings.get_mut("output-flood") {
        aftermath::judge_output(place, &queue, finding)?;
    }
    if without.is_none() {
        aftermath::judge(place, &queue, &mut findings)?;
        shared::judge(place.target.shared, &mut findings);
        for (name, victim) in &handed {
            aftermath::judge_handed(place, name, &victim.neighbour.task, &mut findings)?;
        }
    }
    Ok(findings)
}

/// Where the launcher has ended and its task has not: the task as it was, before it is cancelled, since nobody else
/// would ever take it.
fn given_back(
    place: &Place,
    launched: &Server,
    task: &str,
    over: &AtomicBool,
) -> anyhow::Result<Option<serde_json::Value>> {
    while !over.load(Ordering::Relaxed) {
        if launched.ends_soon() {
            let was = place.task(task)?;
            let state: TaskState = serde_json::from_value(was["state"].clone())?;
            let open = !state.is_terminal();
            if open {
                place.cli(&["cancel", task])?;
            }
            return Ok(open.then_some(was));
        }
    }
    Ok(None)
}

/// A task for each result that the attacker is to hand over itself.
fn handed(place: &Place, plan: &Plan<'_>, queue: &str) -> anyhow::Result<Vec<(&'static str, Victim)>> {
    if plan.wall.without().is_some() {
        return Ok(Vec::new());
    }
    let wanted = plan.attacks.iter().filter(|attack| inside::is_handed(attack));
    wanted.map(|attack| Ok((attack.name, place.another(&format!("victim-{queue}"))?))).collect()
}

/// Whether it was the line that ended the task.
fn ending(line: Line, task: &serde_json::Value) -> Finding {
    let (state, reason) = (&task["state"], task["reason"].as_str().unwrap_or_default());
    let by_it = match line {
        Line::Memory => reason.starts_with("limit_memory") || reason.starts_with("oom"),
        Line::WorkFiles => reason.starts_with("limit_files"),
        Line::RunTime => state == "timed_out",
        _ => false,
    };
    let said = format!("the task is {state}: {reason}");
    if by_it { Finding::Held(said) } else { Finding::Broken(said) }
}

/// What the launcher is told of how to stand its sandbox up.
fn kind<'a>(launcher: Launcher, docker: &Docker<'a>) -> Vec<&'a str> {
    match launcher {
        Launcher::Gvisor | Launcher::GvisorRootless => vec!["--once"],
        Launcher::Docker => vec!["--once", "--sandbox", "docker", "--image", docker.image],
        Launcher::DockerNetwork => {
            let network = docker
                .network
                .map(|network| [network.name.as_str(), network.config.to_str().unwrap_or_default()]);
            let [name, config] = network.unwrap_or_default();
            vec![
                "--once",
                "--sandbox",
                "docker",
                "--image",
                docker.image,
                "--network",
                name,
                "--config",
                config,
            ]
        }
        Launcher::Fortress => vec!["--sandbox", "fortress", "--image", "attack"],
        Launcher::None => vec!["--once", "--sandbox", "none"],
    }
}

/// A line of the stream that is a report.
fn told(event: &str) -> Option<Told> {
    let event: serde_json::Value = serde_json::from_str(event).ok()?;
    serde_json::from_str(event["text"].as_str()?).ok()
}

/// A program in runsc's place.
fn weak_runsc(place: &Place, line: Line, doors: &Path) -> anyhow::Result<PathBuf> {
    let folder = place.home().join("weakened").join(line.name());
    fs::create_dir_all(&folder)?;
    let weakening = Weakening {
        line,
        runsc: real_runsc()?,
        home: place.home().to_owned(),
        stand_in: place.stand_in.folder().to_owned(),
        doors: doors.to_owned(),
        run: place.target.run.clone(),
        key: place.key.clone(),
        loopback: place.target.loopback.clone(),
    };
    let (file, script) = (folder.join("weakening.json"), folder.join("runsc"));
    fs::write(&file, serde_json::to_vec(&weakening)?)?;
    let (program, file) = (std::env::current_exe()?, file.display().to_string());
    fs::write(&script, format!("#!/bin/sh\nexec '{}' weaken '{file}' -- \"$@\"\n", program.display()))?;
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
