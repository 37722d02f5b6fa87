//! What came of the attacks, for people and for programs.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use super::launcher::Launcher;
use crate::{
    attack::{Attack, Category, Finding},
    line::Line,
};

/// One attack against one launcher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) category: Category,
    pub(super) launcher: Launcher,
    /// `None`: it was not tried.
    pub(super) held: Option<bool>,
    pub(super) held_by: Line,
    pub(super) detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) not_tried: Option<NotTried>,
    /// The same without its line, where that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) weakened: Option<Weakened>,
}

/// Why an attack was not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NotTried {
    /// The launcher does not promise to hold it.
    NotPromised,
    /// The launcher is not on this machine, or cannot be attacked here.
    NotHere,
    /// The attack needs what is not there.
    NotPossible,
    /// It does not matter which launcher it is: it is tried with another.
    Once,
}

/// What came of it in a sandbox without its line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Weakened {
    broken: bool,
    detail: String,
}

impl Row {
    pub(super) fn new(launcher: Launcher, attack: &Attack, finding: Finding) -> Self {
        let (held, detail, not_tried) = match finding {
            Finding::Held(detail) => (Some(true), detail, None),
            Finding::Broken(detail) => (Some(false), detail, None),
            Finding::NotApplicable(detail) => (None, detail, Some(NotTried::NotPossible)),
        };
        let (name, category, held_by) = (attack.name.to_owned(), attack.category, attack.line);
        Self { name, category, launcher, held, held_by, detail, not_tried, weakened: None }
    }

    pub(super) fn not_tried(launcher: Launcher, attack: &Attack, why: NotTried, detail: &str) -> Self {
        let row = Self::new(launcher, attack, Finding::NotApplicable(detail.to_owned()));
        Self { not_tried: Some(why), ..row }
    }

    pub(super) fn weakened(self, finding: Finding) -> Self {
        let (broken, detail) = match finding {
            Finding::Broken(detail) => (true, detail),
            Finding::Held(detail) | Finding::NotApplicable(detail) => (false, detail),
        };
        Self { weakened: Some(Weakened { broken, detail }), ..self }
    }
}

/// All that came out.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) attacks: Vec<Row>,
}

impl Report {
    /// Whether every attack that was tried held, and succeeded without its line.
    pub(super) fn is_good(&self) -> bool {
        let can_fail = |row: &Row| row.weakened.as_ref().is_none_or(|weakened| weakened.broken);
        self.attacks.iter().all(|row| row.held != Some(false) && can_fail(row))
    }

    pub(super) fn json(&self) -> anyhow::Result<String> {
        Ok(format!("{}\n", serde_json::to_string_pretty(self)?))
    }

    /// What is as it should be is in small letters; what was not tried is gathered by its reason.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for row in &self.attacks {
            let Row { name, category, launcher, held, held_by, detail, weakened, .. } = row;
            let Some(held) = held else { continue };
            let word = if *held { "held" } else { "BROKEN" };
            let _ = writeln!(text, "{launcher:15} {category:12} {name:28} {word:8} {}", flat(detail));
            if let Some(Weakened { broken, detail }) = weakened {
                let (name, word) = (format!("  without {held_by}"), if *broken { "broken" } else { "HELD" });
                let _ = writeln!(text, "{:15} {:12} {name:28} {word:8} {}", "", "", flat(detail));
            }
        }
        for ((launcher, why, detail), names) in self.gathered() {
            let why = match why {
                NotTried::NotPromised => "not promised",
                NotTried::NotHere => "not here",
                NotTried::NotPossible => "not possible",
                NotTried::Once => "tried once",
            };
            let (count, detail) = (names.len(), flat(detail));
            let which = if count > SHOWN { String::new() } else { format!(" ({})", names.join(", ")) };
            let _ = writeln!(text, "{launcher:15} {count} not tried, {why}: {detail}{which}");
        }
        let held = self.attacks.iter().filter(|row| row.held == Some(true)).count();
        let tried = self.attacks.iter().filter(|row| row.held.is_some()).count();
        let _ = writeln!(text, "{tried} attacks, {held} held");
        text
    }

    fn gathered(&self) -> BTreeMap<(Launcher, NotTried, &str), Vec<&str>> {
        let mut gathered: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in &self.attacks {
            if let Some(why) = row.not_tried {
                gathered.entry((row.launcher, why, row.detail.as_str())).or_default().push(row.name.as_str());
            }
        }
        gathered
    }
}

/// Names in one line of those that were not tried.
const SHOWN: usize = 5;

/// On one line.
fn flat(detail: &str) -> String {
    detail.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside;

    #[test]
    fn what_was_not_tried_is_neither_held_nor_hidden() {
        let attack = inside::all().next().unwrap();
        let why = "there is no Docker";
        let row = Row::not_tried(Launcher::Docker, attack, NotTried::NotHere, why);
        let report = Report { attacks: vec![row] };
        assert!(report.is_good());
        assert!(report.json().unwrap().contains("\"held\": null"));
        let table = report.table();
        assert!(table.contains("1 not tried, not here: there is no Docker"), "{table}");
        assert!(table.ends_with("0 attacks, 0 held\n"), "{table}");
    }

    #[test]
    fn an_attack_that_cannot_fail_is_no_good() {
        let attack = inside::all().next().unwrap();
        let held = || Row::new(Launcher::Gvisor, attack, Finding::Held(String::new()));
        let good = |row| Report { attacks: vec![row] }.is_good();
        assert!(good(held().weakened(Finding::Broken(String::new()))));
        assert!(!good(held().weakened(Finding::Held(String::new()))));
        assert!(!good(Row::new(Launcher::Gvisor, attack, Finding::Broken(String::new()))));
    }
}
