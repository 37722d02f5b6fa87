//! The lines of the policy, each of which can be taken away.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One line of the policy, named by what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    /// `--network=none`. Without it: the network of a namespace of its own, in which addresses of the world answer.
    Network,
    /// No host folder but the toolchain. Without it: the host's home is mounted.
    NoHome,
    /// The agent is a user of its own. Without it: the attacker runs beside the worker, as its user.
    AgentUser,
    /// The same, and no capabilities. Without it: beside the worker, with all of them.
    Capabilities,
    /// The worker's configuration is readable for its user alone.
    ConfigMode,
    /// No key in an environment.
    CleanEnvironment,
}

impl Line {
    /// Its name, as in the program's arguments.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}
