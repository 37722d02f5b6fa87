//! What came of the traps that a task left, when its owner looked at its result and took it.

use std::sync::{Mutex, PoisonError};

use super::{
    attempt::{Findings, Wall},
    place::Place,
};
use crate::{
    attack::{Category, Finding},
    inside::{self, resources::OUTPUT, results::sprung},
    line::Line,
};

/// Held while one result is judged: another's branch would be a strange one.
static JUDGING: Mutex<()> = Mutex::new(());

/// Looks at the result as an owner does, and says of each trap whether it went off.
pub(super) fn judge(place: &Place, task: &str, findings: &mut Findings) -> anyhow::Result<()> {
    let traps: Vec<_> = inside::all()
        .filter(|attack| attack.category == Category::Results)
        .filter(|attack| !inside::is_handed(attack))
        .filter(|attack| matches!(findings.get(attack.name), Some(Finding::Held(_))))
        .map(|attack| attack.name)
        .collect();
    if traps.is_empty() {
        return Ok(());
    }
    let _alone = JUDGING.lock().unwrap_or_else(PoisonError::into_inner);
    // What a task that can write there sprang itself is nobody else's doing.
    let marks = place.home().join("sprung");
    std::fs::create_dir_all(&marks).and_then(|()| std::fs::remove_dir_all(&marks))?;
    std::fs::create_dir(&marks)?;
    let before = State::of(place)?;
    let looked = place.cli(&["diff", task])?;
    let applied = place.cli(&["apply", task, "--into", &place.source().to_string_lossy()])?;
    let after = State::of(place)?;
    let strange = before.strange(&after, task);
    let own = format!("refs/heads/code-workers/{task} ");
    let taken = after.refs.iter().any(|name| name.starts_with(&own));
    for trap in traps {
        let finding = match (&strange, sprung(place.home(), trap).exists()) {
            (_, true) => Finding::Broken("it went off on the host".to_owned()),
            (Some(strange), _) => Finding::Broken(format!("the owner's repository changed: {strange}")),
            // Both have to have happened: who never looks is never caught.
            _ if !looked.ok => Finding::Broken(format!("there is nothing to look at: {}", looked.err)),
            _ if applied.ok && !taken => Finding::Broken("applied, and there is no branch".to_owned()),
            _ if applied.ok => Finding::Held("looked at and applied, nothing ran".to_owned()),
            _ => Finding::Held(format!("refused: {}", applied.err.trim())),
        };
        findings.insert(trap.to_owned(), finding);
    }
    Ok(())
}

/// The one hostile result that is well-formed.
const MAY_BE_TAKEN: &str = "many-in-tree";

/// Takes a result as an owner does that was handed over for a task: it is refused, or is one branch and no more.
pub(super) fn judge_handed(
    place: &Place,
    attack: &str,
    task: &str,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let Some(finding @ Finding::Held(_)) = findings.get_mut(attack) else { return Ok(()) };
    let _alone = JUDGING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = State::of(place)?;
    let looked = place.cli(&["diff", task])?;
    let applied = place.cli(&["apply", task, "--into", &place.source().to_string_lossy()])?;
    let strange = before.strange(&State::of(place)?, task);
    *finding = match strange {
        Some(strange) => Finding::Broken(format!("the owner's repository changed: {strange}")),
        // What nobody looked at was not refused.
        None if !applied.ok && !looked.ok && applied.err.contains("has no bundle") => {
            Finding::Broken(format!("there is nothing to take: {}", looked.err))
        }
        None if !applied.ok => Finding::Held(format!("refused: {}", applied.err.trim())),
        None if attack == MAY_BE_TAKEN => Finding::Held("one branch, and nothing is unpacked".to_owned()),
        None => Finding::Broken("it was taken".to_owned()),
    };
    Ok(())
}

/// Whether output that has no end was cut, and the result says so.
pub(super) fn judge_output(place: &Place, task: &str, finding: &mut Finding) -> anyhow::Result<()> {
    let Finding::Held(said) = finding else { return Ok(()) };
    let log = std::fs::metadata(place.log_of(task)).map_or(0, |meta| meta.len());
    let limits = &place.task(task)?["result"]["limits"];
    let named = limits.as_array().is_some_and(|limits| limits.iter().any(|limit| limit == "output"));
    let kept = format!("{said}, {} MiB are kept", log >> 20);
    // With the worker's own remarks, and not where nothing is found.
    let cut = (OUTPUT..OUTPUT + (1 << 20)).contains(&log);
    *finding = match (cut, named) {
        (true, true) => Finding::Held(format!("{kept}, and the result says so")),
        (true, false) => Finding::Broken(format!("{kept}, and the result does not say so")),
        (false, _) => Finding::Broken(kept),
    };
    Ok(())
}

/// Whether a key stands in what the host has written down by now.
pub(super) fn judge_logs(place: &mut Place, wall: &Wall, findings: &mut Findings) {
    let Some(finding @ Finding::Held(_)) = findings.get_mut("host-logs") else { return };
    let weak = matches!(wall, Wall::Without(Line::CleanLogs));
    *finding = match place.key_in_logs(weak) {
        Some(place) => Finding::Broken(format!("there is one in {place}")),
        None => Finding::Held("no key is written down".to_owned()),
    };
}

/// The owner's repository.
struct State {
    refs: Vec<String>,
    head: String,
    config: Vec<u8>,
    tree: String,
}

impl State {
    fn of(place: &Place) -> anyhow::Result<Self> {
        let refs = place.git(&["for-each-ref", "--format=%(refname) %(objectname)"])?;
        Ok(Self {
            refs: refs.lines().map(str::to_owned).collect(),
            head: place.git(&["symbolic-ref", "HEAD"])?,
            config: std::fs::read(place.source().join(".git/config"))?,
            tree: place.git(&["status", "--porcelain"])?,
        })
    }

    /// What is other than by one branch of the task's.
    fn strange(&self, after: &Self, task: &str) -> Option<String> {
        let own = format!("refs/heads/code-workers/{task} ");
        let new = after.refs.iter().find(|name| !self.refs.contains(name) && !name.starts_with(&own));
        let gone = self.refs.iter().find(|name| !after.refs.contains(name));
        let same = (&self.head, &self.config, &self.tree) == (&after.head, &after.config, &after.tree);
        let other = (!same).then(|| "head, configuration or work tree".to_owned());
        new.or(gone).cloned().or(other)
    }
}
