//! What came of the attacks, for people and for programs.

use std::fmt::Write as _;

use serde_json::json;

use crate::attack::{Attack, Finding};

/// One attack against one launcher.
pub(super) struct Outcome<'a> {
    pub(super) attack: &'a Attack,
    pub(super) launcher: &'a str,
    pub(super) held: Finding,
    /// The same without its line, where that was tried.
    pub(super) weakened: Option<Finding>,
}

pub(super) struct Report<'a>(Vec<Outcome<'a>>);

impl<'a> Report<'a> {
    pub(super) fn of(outcomes: impl Iterator<Item = Outcome<'a>>) -> Self {
        Self(outcomes.collect())
    }

    /// Whether every attack held, and succeeded without its line.
    pub(super) fn is_good(&self) -> bool {
        self.0.iter().all(|outcome| {
            let can_fail = outcome.weakened.as_ref().is_none_or(|found| matches!(found, Finding::Broken(_)));
            !matches!(outcome.held, Finding::Broken(_)) && can_fail
        })
    }

    pub(super) fn json(&self) -> anyhow::Result<String> {
        let attacks: Vec<_> = self.0.iter().map(Outcome::json).collect();
        Ok(format!("{}\n", serde_json::to_string_pretty(&json!({ "attacks": attacks }))?))
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for outcome in &self.0 {
            let Outcome { attack, launcher, held, weakened } = outcome;
            let (word, detail) = word(held, ["held", "BROKEN"]);
            let detail = flat(detail);
            // Writing to a String cannot fail.
            let _ =
                writeln!(text, "{launcher:8} {:12} {:28} {word:8} {detail}", attack.category, attack.name);
            if let Some(found) = weakened {
                let (word, detail) = self::word(found, ["HELD", "broken"]);
                let detail = flat(detail);
                let _ = writeln!(
                    text,
                    "{:8} {:12} {:28} {word:8} {detail}",
                    "",
                    "",
                    format!("  without {}", attack.line)
                );
            }
        }
        let held = self.0.iter().filter(|outcome| matches!(outcome.held, Finding::Held(_))).count();
        let _ = writeln!(text, "{} attacks, {held} held", self.0.len());
        text
    }
}

/// The outcome's word: what is as it should be is in small letters.
fn word<'a>(finding: &'a Finding, [held, broken]: [&'static str; 2]) -> (&'static str, &'a str) {
    match finding {
        Finding::Held(detail) => (held, detail),
        Finding::Broken(detail) => (broken, detail),
        Finding::NotApplicable(detail) => ("skipped", detail),
    }
}

/// On one line.
fn flat(detail: &str) -> String {
    detail.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Outcome<'_> {
    fn json(&self) -> serde_json::Value {
        let (word, detail) = word(&self.held, ["held", "broken"]);
        let mut line = json!({
            "name": self.attack.name,
            "category": self.attack.category,
            "launcher": self.launcher,
            "held": word == "held",
            "held_by": self.attack.line,
            "detail": detail,
        });
        if word == "skipped" {
            line["skipped"] = true.into();
        }
        if let Some(found) = &self.weakened {
            let (word, detail) = self::word(found, ["held", "broken"]);
            line["weakened"] = json!({ "broken": word == "broken", "detail": detail });
        }
        line
    }
}
