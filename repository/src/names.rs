//! Names that are checked before git sees them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that breaks its rule; says which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(&'static str);

/// A task's id: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(String);

impl FromStr for TaskId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let legal = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if starts_well && legal && text.len() <= 128 {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName(
                "a task id is a letter or digit and then at most 127 of letters, digits, `.`, `_`, `-`",
            ))
        }
    }
}

/// A full commit id: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

impl FromStr for CommitId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if digits && matches!(text.len(), 40 | 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName("a full commit id is 40 or 64 lower-case hexadecimal digits"))
        }
    }
}

impl CommitId {
    /// git's name for the hash that made this id, as `git init --object-format` takes it.
    pub(crate) fn object_format(&self) -> &'static str {
        if self.0.len() == 64 { "sha256" } else { "sha1" }
    }
}

macro_rules! text_like {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}
text_like!(TaskId);
text_like!(CommitId);

/// The last part of a task's refs. git refuses `..`, a last `.` and a last `.lock` in a ref's name
/// (`git help check-ref-format`), so a dot that is followed by a dot, by the end, or by a final `lock` is
/// written `%2E`; all else stands as it is. A task id holds no `%`, so no two ids meet.
fn ref_part_of(task: &TaskId) -> String {
    let id = task.as_str();
    let mut part = String::with_capacity(id.len() + 4);
    for (at, character) in id.char_indices() {
        let rest = &id[at + character.len_utf8()..];
        if character == '.' && (rest.is_empty() || rest.starts_with('.') || rest == "lock") {
            part.push_str("%2E");
        } else {
            part.push(character);
        }
    }
    part
}

/// The branch on which a task's work comes back: `code-workers/<task id>`, with a dot that git would refuse there
/// written as `%2E` (one followed by a dot, by the end, or by a final `lock`).
#[must_use]
pub fn branch_of(task: &TaskId) -> String {
    format!("code-workers/{}", ref_part_of(task))
}

/// The full ref of [`branch_of`]: `refs/heads/code-workers/<task id>`.
#[must_use]
pub fn branch_ref_of(task: &TaskId) -> String {
    format!("refs/heads/{}", branch_of(task))
}

/// The one ref of a base's bundle.
pub const BASE_REF: &str = "refs/heads/base";

/// Where an imported result stands in a mirror, to be the base of a later task: `refs/code-workers/<task id>`.
#[must_use]
pub fn mirror_ref_of(task: &TaskId) -> String {
    format!("refs/code-workers/{}", ref_part_of(task))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn is_legal(name: &str) -> bool {
        Command::new("git").args(["check-ref-format", name]).status().unwrap().success()
    }

    #[test]
    fn awkward_ids_become_legal_refs() {
        for (id, part) in [
            ("task-1234567890-12345", "task-1234567890-12345"),
            ("a.b", "a.b"),
            ("a..b", "a%2E.b"),
            ("a...", "a%2E%2E%2E"),
            ("a.lock", "a%2Elock"),
            ("a..lock", "a%2E%2Elock"),
            ("a.lock.b", "a.lock.b"),
            ("a.locks", "a.locks"),
        ] {
            let task = id.parse().unwrap();
            assert_eq!(mirror_ref_of(&task), format!("refs/code-workers/{part}"));
            assert!(is_legal(&branch_ref_of(&task)), "{id}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        for id in ["", ".a", "-a", "a/b", "a b", "a%2E", "ä", "a\n", &"a".repeat(129)] {
            assert!(id.parse::<TaskId>().is_err(), "{id}");
        }
        for id in ["", "HEAD", &"a".repeat(39), &"A".repeat(40), &"g".repeat(40), &"a".repeat(41)] {
            assert!(id.parse::<CommitId>().is_err(), "{id}");
        }
    }

    proptest! {
        #[test]
        fn each_id_has_a_legal_ref_of_its_own(id in "[a-c0][ab.-]{0,6}(\\.lock|\\.)?") {
            let task: TaskId = id.parse().unwrap();
            prop_assert!(is_legal(&branch_ref_of(&task)));
            prop_assert_eq!(ref_part_of(&task).replace("%2E", "."), id);
        }
    }
}
