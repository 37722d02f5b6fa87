//! What is known of the `runsc` on this machine.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroups;

/// A `runsc` that has started a sandbox on this machine as this user. Made by [`Runsc::probe`]; it can be
/// written to a file and used by another process of the same user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runsc {
    pub(crate) program: PathBuf,
    pub(crate) version: Version,
    pub(crate) platform: Platform,
    pub(crate) rootless: bool,
    pub(crate) doors: Doors,
    pub(crate) work: WorkStore,
    pub(crate) memory: MemoryLimit,
}

/// What `runsc --version` calls itself, such as `0.0~20240729.0` (Debian) or `release-20240729.0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version(pub(crate) String);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How gVisor takes over a program's system calls: its own default on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// The default since 2023.
    Systrap,
    /// The slow one before it.
    Ptrace,
    /// With hardware virtualisation.
    Kvm,
    /// One that this program does not know yet.
    Other,
}

/// The flag by which this runsc lets a sandbox connect to unix sockets in mounted folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doors {
    /// `--host-uds=open`: connect, but not make.
    HostUds,
    /// `--fsgofer-host-uds`, of 2022 and before: connect and make.
    FsgoferHostUds,
}

/// Where the bytes of `/work` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkStore {
    /// In a file on the host's disk.
    File,
    /// In memory.
    Memory,
}

/// What holds a sandbox to its memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryLimit {
    /// A cgroup of its own: all inside together.
    Cgroup(Cgroups),
    /// RLIMIT_AS: each process alone.
    AddressSpace,
}

impl Runsc {
    /// Whether sandboxes run without root on the host.
    pub fn rootless(&self) -> bool {
        self.rootless
    }

    /// What the binary calls itself.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// How it takes over system calls.
    pub fn platform(&self) -> Platform {
        self.platform
    }

    /// What holds a sandbox to its memory here.
    pub fn memory(&self) -> &MemoryLimit {
        &self.memory
    }

    /// Where the binary is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// What cannot be had here, one plain sentence each, with what would help.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.doors == Doors::FsgoferHostUds || self.platform == Platform::Ptrace {
            warnings.push(format!(
                "runsc {} is old: `ls -l` and `stat` may fail inside and sandboxes are slow; install one of 2024 or later",
                self.version
            ));
        }
        if self.work == WorkStore::Memory {
            warnings.push("/work is kept in memory, because this runsc cannot keep it in a file".to_owned());
        }
        match &self.memory {
            MemoryLimit::AddressSpace => warnings.push(
                "this user has no cgroup to limit memory and CPU with: memory is limited for each process alone, to \
                 16 GiB of addresses or more, and CPU is not (run as root, or under systemd with Delegate=yes)"
                    .to_owned(),
            ),
            MemoryLimit::Cgroup(cgroups) if !cgroups.limit_cpu() => warnings.push(
                "this user's cgroups do not hand on the CPU: memory is limited, and CPU is not (`systemctl edit \
                 user@.service`, there `[Service]` and `Delegate=memory pids cpu`, and log in again)"
                    .to_owned(),
            ),
            MemoryLimit::Cgroup(_) => {}
        }
        warnings
    }

    /// The arguments that come before every subcommand. `state` is a folder of this sandbox alone.
    pub(crate) fn arguments(&self, state: &Path) -> Vec<OsString> {
        let mut arguments = vec![OsString::from("--root"), state.into()];
        let doors = match self.doors {
            Doors::HostUds => "--host-uds=open",
            Doors::FsgoferHostUds => "--fsgofer-host-uds",
        };
        // Our own cgroup holds all of runsc's processes, so that it works for cgroup v1 and v2 and for a
        // delegated one of a plain user.
        arguments.extend(["--network=none", "--ignore-cgroups", doors].map(OsString::from));
        if self.rootless {
            arguments.push("--rootless".into());
        }
        arguments
    }
}
