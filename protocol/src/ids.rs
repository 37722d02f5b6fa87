//! Names that travel in paths. A value of one of these types is well formed.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {found:?} is not valid: use 1 to {max} of A-Z a-z 0-9 . _ -, starting with a letter or digit{also}"
)]
pub struct BadName {
    what: &'static str,
    found: String,
    max: usize,
    also: &'static str,
}

fn check(what: &'static str, text: &str, max: usize, reserved: &[&str]) -> Result<(), BadName> {
    let mut chars = text.chars();
    let first_ok = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest_ok = chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if first_ok && rest_ok && text.len() <= max && !reserved.contains(&text) {
        return Ok(());
    }
    let also = if reserved.is_empty() { "" } else { "; \"lease\" is reserved" };
    Err(BadName { what, found: text.chars().take(max + 16).collect(), max, also })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $reserved:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                check($what, text, $max, $reserved)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                check($what, &text, $max, $reserved)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`, not `lease`.
    TaskId, "task id", limits::TASK_ID_CHARS, &["lease"]
);
name!(
    /// A queue, and the repository that bears its name: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
    QueueName, "repository name", limits::NAME_CHARS, &[]
);
name!(
    /// An agent's name, which is its file's name in `agents/`.
    AgentName, "agent name", limits::NAME_CHARS, &[]
);
name!(
    /// A worker's id, made by the coordinator.
    WorkerId, "worker id", limits::NAME_CHARS, &[]
);
name!(
    /// What the owner calls a virtual key of their own.
    KeyName, "key name", limits::NAME_CHARS, &[]
);
name!(
    /// An artifact's name: one path component.
    ArtifactName, "artifact name", limits::TASK_ID_CHARS, &[]
);

name!(
    /// What a root file system is called here: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
    ImageName, "image name", limits::NAME_CHARS, &[]
);

impl TaskId {
    /// `task-<uuid v7>`, for tasks whose sender names none.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("task-{}", uuid::Uuid::now_v7()))
    }
}

impl WorkerId {
    /// `w-` and 16 random hex digits, new for each process, so that a reused name hides no orphan. Short,
    /// because a unix socket's path, which holds it, ends at 107 bytes.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("w-{:016x}", uuid::Uuid::new_v4().as_u64_pair().1))
    }
}

#[cfg(test)]
mod tests {
    use super::{QueueName, TaskId};

    #[test]
    fn accepts_the_form_and_refuses_the_rest() {
        for good in ["a", "task-1234567890-12345", "A.b_c-d", &"x".repeat(128)] {
            assert!(good.parse::<TaskId>().is_ok(), "{good}");
        }
        for bad in ["", "lease", ".a", "-rf", "a/b", "../x", "a b", "é", "a\0", &"x".repeat(129)] {
            assert!(bad.parse::<TaskId>().is_err(), "{bad}");
        }
        assert!("lease".parse::<QueueName>().is_ok());
        assert!("x".repeat(65).parse::<QueueName>().is_err());
        assert!(serde_json::from_str::<QueueName>("\"a/b\"").is_err());
    }
}
