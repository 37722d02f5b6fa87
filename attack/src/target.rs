//! What the attacker is told about its target, so that it finds what a better attacker would find by searching.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Places and marks on the host. What is not said is not there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Target {
    /// What must not be readable inside: keys and marks. Each is written backwards here, so that a search does not
    /// find the attacker's own notes.
    pub(crate) needles: Vec<Backwards>,
    /// The home folder of the host's user, with keys and marks in it.
    pub(crate) home: PathBuf,
    /// `$run` of the host.
    pub(crate) run: PathBuf,
    /// Ports on the host's loopback where somebody listens.
    pub(crate) loopback: Vec<u16>,
    /// An abstract socket of the host.
    pub(crate) abstract_socket: String,
    /// The keys of what processes of one kernel share (sysvipc(7)): the host's, and what the attacker leaves.
    pub(crate) shared: Shared,
    /// The id of the host's boot.
    pub(crate) boot_id: Backwards,
    /// Another's task that runs.
    pub(crate) neighbour: Neighbour,
    /// The owner's key, as if it had leaked.
    pub(crate) owner_key: Backwards,
    /// Whether the attacker is to play a careless host as well.
    pub(crate) careless: bool,
    /// A virtual key whose task has ended.
    pub(crate) dead_key: Backwards,
    /// What the worker of that task had.
    pub(crate) dead: Leaked,
    /// What the neighbour's worker has, as if it had leaked.
    pub(crate) leaked: Leaked,
    /// A task for each hostile result, by the attack's name, with all that it takes to report it.
    pub(crate) handed: BTreeMap<String, Leaked>,
}

/// Numbers by which shared things are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shared {
    pub(crate) hosts: i32,
    pub(crate) left: i32,
}

/// A task with its worker's token and lease.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Leaked {
    pub(crate) task: String,
    pub(crate) token: Backwards,
    pub(crate) lease: Backwards,
}

/// Another's task. Its names are no secret.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Neighbour {
    pub(crate) task: String,
    pub(crate) queue: String,
    pub(crate) worker: String,
}

/// A text that is stored backwards.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Backwards(String);

impl Backwards {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.chars().rev().collect())
    }

    /// One that is written backwards already.
    pub(crate) fn stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn text(&self) -> String {
        self.0.chars().rev().collect()
    }
}

impl Target {
    /// The text with the neighbour's names for `{task}`, `{queue}` and `{worker}`.
    pub(crate) fn filled(&self, text: &str) -> String {
        let Neighbour { task, queue, worker } = &self.neighbour;
        text.replace("{task}", task).replace("{queue}", queue).replace("{worker}", worker)
    }

    /// What `text` holds of the needles.
    pub(crate) fn found_in(&self, text: &[u8]) -> Option<String> {
        let holds = |needle: &str| text.windows(needle.len()).any(|part| part == needle.as_bytes());
        self.needles.iter().map(Backwards::text).find(|needle| holds(needle))
    }
}
