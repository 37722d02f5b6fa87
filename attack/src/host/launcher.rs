//! The ways to stand a sandbox up, and what each of them promises. Pure.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{attack::Attack, line::Line};

/// A way to stand a sandbox up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Launcher {
    /// gVisor's runsc, as root.
    Gvisor,
    /// The same as a plain user.
    GvisorRootless,
    /// Docker with runsc.
    Docker,
    /// The same, on a network with its doors.
    DockerNetwork,
    /// An AI Fortress.
    Fortress,
    /// No sandbox.
    None,
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

impl Launcher {
    /// Whether what is tried once is tried with it; `own` where the user is not one that was chosen for it.
    pub(super) fn is_first(self, own: bool) -> bool {
        self == Self::Gvisor || (self == Self::GvisorRootless && own)
    }

    /// Whether it is to hold this attack; else why not, as `docs/security.md` says it.
    pub(super) fn promises(self, attack: &Attack) -> Result<(), &'static str> {
        match self {
            Self::Gvisor | Self::GvisorRootless | Self::Docker => Ok(()),
            Self::DockerNetwork => on_a_network(attack),
            Self::Fortress => fortress(attack),
            Self::None => none(attack.line),
        }
    }
}

fn on_a_network(attack: &Attack) -> Result<(), &'static str> {
    match attack.name {
        "neighbours" | "interfaces" => Err(
            "on a network, containers can see and call one another, and what listens on all addresses of the host",
        ),
        _ => Ok(()),
    }
}

fn fortress(attack: &Attack) -> Result<(), &'static str> {
    match attack.line {
        Line::OwnerApart
        | Line::LeaseChecked
        | Line::NamesChecked
        | Line::RunTime
        | Line::CleanEnvironment
        | Line::CleanArguments
        | Line::AgentUser
        | Line::CleanRepository => Ok(()),
        Line::Capabilities if attack.name.starts_with("worker-") || attack.name == "capabilities" => Ok(()),
        Line::CleanMirror | Line::FolderModes => Err("there is no such file in a fortress"),
        Line::MintApart | Line::GatewayChecks | Line::CleanLogs => {
            Err("its agents have the fortress's own key, for the fortress's own gateway")
        }
        Line::DoorLimits => Err("its door is the fortress's shim"),
        _ => Err("the walls, the limits and the network are the fortress's own"),
    }
}

fn none(line: Line) -> Result<(), &'static str> {
    match line {
        Line::OwnerApart
        | Line::LeaseChecked
        | Line::NamesChecked
        | Line::MintApart
        | Line::GatewayChecks
        | Line::CleanLogs
        | Line::RunTime
        | Line::Output
        | Line::CleanRepository => Ok(()),
        Line::AgentUser
        | Line::Capabilities
        | Line::FolderModes
        | Line::CleanEnvironment
        | Line::CleanArguments
        | Line::CleanMirror
        | Line::CoreLimit => Err("there is no sandbox: the agent is the worker's user, and yours"),
        _ => Err("there is no sandbox: what the agent runs is you, on this machine"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside;

    #[test]
    fn without_a_wall_the_servers_and_what_comes_back_are_what_is_left() {
        let promised =
            |launcher: Launcher| inside::all().filter(move |attack| launcher.promises(attack).is_ok());
        assert_eq!(promised(Launcher::Docker).count(), inside::all().count());
        assert_eq!(promised(Launcher::DockerNetwork).count(), inside::all().count() - 2);
        for launcher in [Launcher::Fortress, Launcher::None] {
            let names: Vec<_> = promised(launcher).map(|attack| attack.name).collect();
            for kept in ["owner-list", "forged-result", "hooks"] {
                assert!(names.contains(&kept), "{launcher} {kept}");
            }
            for own in ["tcp-out", "host-home", "fork-bomb", "bpf", "token-file"] {
                assert!(!names.contains(&own), "{launcher} {own}");
            }
        }
    }
}
