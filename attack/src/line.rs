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
    /// No host folder but the toolchain. Without it: the host's home, and secrets of /etc, are mounted.
    HostFolders,
    /// No socket of the host but the doors. Without it: Docker's and ours are mounted.
    HostSockets,
    /// No /proc of the host. Without it: it is mounted.
    HostProc,
    /// All that is not the task's own is read-only. Without it: nothing is.
    ReadOnly,
    /// The worker's door has the worker's verbs alone. Without it: every other request is the owner's.
    OwnerApart,
    /// A worker's call shows its lease. Without it: any call for a task is its worker's.
    LeaseChecked,
    /// An artifact's name is a name. Without it: what is none becomes one.
    NamesChecked,
    /// A door takes little at once. Without it: one visitor at a time, who may say as much as it likes.
    DoorLimits,
    /// The gateway's door makes no keys. Without it: it is the one that does.
    MintApart,
    /// The gateway passes on what its lists name, for a key that lives. Without it: everything, with the real key.
    GatewayChecks,
    /// Servers write no key into their logs. Without it: the gateway's door writes down what it passes on.
    CleanLogs,
    /// The worker watches the memory of all that it has started. Without it: nobody does but the cgroup behind it.
    Memory,
    /// The worker counts the files in /work. Without it: nobody does.
    WorkFiles,
    /// The worker keeps so much of what a program says. Without it: more than a host gives away.
    Output,
    /// A task may run so long. Without it: longer.
    RunTime,
    /// A limit of processes and threads.
    Processes,
    /// A limit of open files.
    OpenFiles,
    /// A limit of one file's size.
    FileSize,
    /// The size of /work. Without it: a gigabyte.
    WorkSize,
    /// The size of /tmp.
    TmpSize,
    /// PID 1 waits for orphans. Without it: one that does not.
    Reaping,
    /// The host looks at a bundle in a repository of its own. Without it: at the work tree that was left, which is
    /// done inside as well, by the attacker.
    CleanRepository,
    /// gVisor's own kernel. Without it: the attacker is root in a virtual machine, whose kernel is Linux.
    Kernel,
    /// The agent is a user of its own. Without it: the attacker runs beside the worker, as its user.
    AgentUser,
    /// The same, and no capabilities. Without it: beside the worker, with all of them.
    Capabilities,
    /// The worker's configuration, doors and outbox are its user's alone. Without it: 0777 and 0666.
    FolderModes,
    /// No key in an environment.
    CleanEnvironment,
    /// No key in an argument.
    CleanArguments,
    /// No password in the mirror's configuration.
    CleanMirror,
    /// No core dumps.
    CoreLimit,
}

impl Line {
    /// Whether it is a line of one of the servers behind the doors.
    pub(crate) fn is_a_doors(self) -> bool {
        use Line::{CleanLogs, DoorLimits, GatewayChecks, LeaseChecked, MintApart, NamesChecked, OwnerApart};
        matches!(
            self,
            OwnerApart | LeaseChecked | NamesChecked | DoorLimits | MintApart | GatewayChecks | CleanLogs
        )
    }

    /// Whether each attack on it has a task of its own: it holds by ending the task, or by dropping what it tells.
    pub(crate) fn takes_a_task(self) -> bool {
        matches!(self, Self::Memory | Self::WorkFiles | Self::RunTime | Self::Output)
    }

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
