//! What the attacker is told about its target, so that it finds what a better attacker would find by searching.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The file in the work tree that holds a [`Target`] as JSON.
pub(crate) const FILE: &str = "target.json";

/// Places and marks on the host.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    /// The id of the host's boot.
    pub(crate) boot_id: Backwards,
}

/// A text that is stored backwards.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Backwards(String);

impl Backwards {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.chars().rev().collect())
    }

    pub(crate) fn text(&self) -> String {
        self.0.chars().rev().collect()
    }
}

impl Target {
    /// Reads it from the work tree.
    pub(crate) fn read() -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(FILE)?)?)
    }

    /// What `text` holds of the needles.
    pub(crate) fn found_in(&self, text: &[u8]) -> Option<String> {
        let holds = |needle: &str| text.windows(needle.len()).any(|part| part == needle.as_bytes());
        self.needles.iter().map(Backwards::text).find(|needle| holds(needle))
    }
}
