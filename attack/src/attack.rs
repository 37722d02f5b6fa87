//! What an attack is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{line::Line, target::Target};

/// One way out that an agent may try.
#[derive(Clone, Copy)]
pub(crate) struct Attack {
    /// Its name: letters, digits and `-`; unique.
    pub(crate) name: &'static str,
    pub(crate) category: Category,
    /// What is tried, in one line.
    pub(crate) tries: &'static str,
    /// The line of the policy without which it succeeds.
    pub(crate) line: Line,
    /// Tries it, inside.
    pub(crate) act: fn(&Target) -> Finding,
}

/// What an attack is against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Category {
    Network,
    Files,
    Keys,
    Coordinator,
    Gateway,
    Resources,
    Results,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Network => "network",
            Self::Files => "files",
            Self::Keys => "keys",
            Self::Coordinator => "coordinator",
            Self::Gateway => "gateway",
            Self::Resources => "resources",
            Self::Results => "results",
        })
    }
}

/// How an attack came out, with what it saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "detail")]
pub(crate) enum Finding {
    /// The wall stood.
    Held(String),
    /// The attacker has what it wanted.
    Broken(String),
    /// It cannot be tried here.
    NotApplicable(String),
}

impl Finding {
    /// The attacker wants this call to succeed.
    pub(crate) fn of<T, E: fmt::Display>(tried: Result<T, E>, gain: &str) -> Self {
        match tried {
            Ok(_) => Self::Broken(gain.to_owned()),
            Err(error) => Self::Held(error.to_string()),
        }
    }

    /// The first that broke, else all that held.
    pub(crate) fn all(findings: impl IntoIterator<Item = Self>) -> Self {
        let (mut held, mut skipped) = (Vec::new(), "nothing to try".to_owned());
        for finding in findings {
            match finding {
                Self::Held(detail) => held.push(detail),
                Self::NotApplicable(why) => skipped = why,
                Self::Broken(_) => return finding,
            }
        }
        held.dedup();
        if held.is_empty() { Self::NotApplicable(skipped) } else { Self::Held(held.join("; ")) }
    }

    /// The attacker wants any of these.
    pub(crate) fn none_of(gains: &[impl AsRef<str>], wanted: &str) -> Self {
        match gains.first() {
            Some(gain) => Self::Broken(format!("{wanted}: {}", gain.as_ref())),
            None => Self::Held(format!("no {wanted}")),
        }
    }
}

/// What an attack says on its standard output: one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The attack.
    pub(crate) attack: String,
    #[serde(flatten)]
    pub(crate) finding: Finding,
}
