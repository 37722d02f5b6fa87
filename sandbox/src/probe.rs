//! Asks the binary on this machine what it can do, and starts one sandbox to be sure.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::cgroup::Cgroups;
use crate::destroy::destroy;
use crate::policy::{BadPath, HostPath, InsidePath, Limits, Policy, Root, SandboxId, Work};
use crate::runsc::{Doors, MemoryLimit, Platform, Runsc, Version, WorkStore};
use crate::start::{Exit, StartError, start};
use crate::{HostToolchain, ToolchainError};

/// What to do when there is no runsc, or none that works.
const REMEDY: &str = "on Debian 12 `apt-get install runsc/bookworm-backports`, on Debian 13 and Ubuntu 24.04 \
                      `apt-get install runsc`, elsewhere see https://gvisor.dev/docs/user_guide/install/";

/// Why no sandbox can be had on this machine.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is no such program, or it is not one.
    #[error("cannot run {program}: {why}; gVisor's runsc must be installed: {REMEDY}")]
    Missing {
        /// What was looked for.
        program: PathBuf,
        /// Why it cannot be run.
        why: io::Error,
    },
    /// It is not a runsc that this program knows how to use.
    #[error("{program} is no runsc that can be used: {reason}; install another: {REMEDY}")]
    Unusable {
        /// The binary.
        program: PathBuf,
        /// What is amiss with it.
        reason: String,
    },
    /// It gave up when a sandbox was started.
    #[error(
        "runsc {version} cannot start a sandbox on this machine: {reason}\n\
         (as a plain user it needs user namespaces: `sysctl kernel.unprivileged_userns_clone` and \
         `kernel.apparmor_restrict_unprivileged_userns` must allow them; or run as root; or try a newer runsc: {REMEDY})"
    )]
    CannotStart {
        /// The binary's version.
        version: String,
        /// What runsc said.
        reason: String,
    },
    /// The host's own folders could not be looked at.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// The scratch folder is none.
    #[error("cannot try out runsc there: {0}")]
    Scratch(#[from] BadPath),
}

impl Runsc {
    /// Asks `program` (a path, or a name on PATH) what it knows, and starts and ends one small sandbox in
    /// `scratch`, an existing folder of the caller's, to be sure that it can.
    pub async fn probe(program: &Path, scratch: &Path) -> Result<Self, ProbeError> {
        let version = version(&ask(program, "--version").await?);
        let Some(version) = version else {
            let reason = "it does not tell its version as runsc does".to_owned();
            return Err(ProbeError::Unusable { program: program.into(), reason });
        };
        // `runsc flags` lists what it takes since 2021.
        let flags = ask(program, "flags").await?;
        let unusable = |reason: String| ProbeError::Unusable { program: program.into(), reason };
        let doors = doors(&flags)
            .ok_or_else(|| unusable(format!("{version} cannot connect to unix sockets of the host")))?;
        let mut runsc = Self {
            program: program.into(),
            version,
            platform: platform(&flags),
            rootless: !rustix::process::geteuid().is_root(),
            doors,
            work: work_store(&flags),
            memory: MemoryLimit::AddressSpace,
        };
        let policy = trial(scratch)?;
        for cgroups in Cgroups::candidates() {
            let with_cgroup = Self { memory: MemoryLimit::Cgroup(cgroups), ..runsc.clone() };
            match with_cgroup.try_out(&policy, scratch).await {
                Ok(()) => return Ok(with_cgroup),
                Err(reason) => tracing::debug!(%reason, memory = ?with_cgroup.memory, "not with this cgroup"),
            }
        }
        runsc.memory = MemoryLimit::AddressSpace;
        match runsc.try_out(&policy, scratch).await {
            Ok(()) => Ok(runsc),
            Err(reason) => Err(ProbeError::CannotStart { version: runsc.version.0, reason }),
        }
    }

    async fn try_out(&self, policy: &Policy, scratch: &Path) -> Result<(), String> {
        let folder = scratch.join(format!("{}.bundle", policy.id));
        let outcome = match start(policy, self, &folder).await {
            Ok(mut sandbox) => match sandbox.wait().await {
                Ok(Exit::Code(0)) => Ok(()),
                Ok(Exit::Failed(reason)) => Err(reason),
                Ok(other) => Err(format!("a trial sandbox ended with {other:?}")),
                Err(error) => Err(error.to_string()),
            },
            Err(StartError::Runsc(reason)) => Err(reason),
            Err(error) => Err(error.to_string()),
        };
        destroy(&folder, &policy.id).await.map_err(|error| error.to_string())?;
        outcome
    }
}

async fn ask(program: &Path, question: &str) -> Result<String, ProbeError> {
    let missing = |why| ProbeError::Missing { program: program.into(), why };
    let mut command = Command::new(program);
    // It may be found on PATH; keys in our environment are none of its business.
    command.arg(question).env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let output = command.stdin(Stdio::null()).output().await.map_err(missing)?;
    // `runsc flags` writes to stderr.
    Ok([output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
}

fn version(answer: &str) -> Option<Version> {
    let first = answer.lines().find_map(|line| line.strip_prefix("runsc version "))?;
    Some(Version(first.trim().to_owned()))
}

fn has(flags: &str, name: &str) -> bool {
    flags.lines().any(|line| line.trim_start().trim_start_matches('-').split(' ').next() == Some(name))
}

fn doors(flags: &str) -> Option<Doors> {
    if has(flags, "host-uds") {
        Some(Doors::HostUds)
    } else {
        has(flags, "fsgofer-host-uds").then_some(Doors::FsgoferHostUds)
    }
}

/// What follows `default` in the text of the flag.
fn platform(flags: &str) -> Platform {
    match flags
        .split("specifies which platform to use")
        .nth(1)
        .and_then(|text| text.split("default \"").nth(1))
    {
        Some(text) if text.starts_with("systrap") => Platform::Systrap,
        Some(text) if text.starts_with("ptrace") => Platform::Ptrace,
        Some(text) if text.starts_with("kvm") => Platform::Kvm,
        _ => Platform::Other,
    }
}

/// A runsc that can keep an overlay in a file beside a mount can keep a tmpfs there too.
fn work_store(flags: &str) -> WorkStore {
    if flags.contains("'self'") { WorkStore::File } else { WorkStore::Memory }
}

/// The smallest sandbox that uses everything that the others do.
fn trial(scratch: &Path) -> Result<Policy, ProbeError> {
    let id = format!("trial-{}", std::process::id());
    Ok(Policy {
        id: SandboxId::try_from(id)?,
        root: Root::HostToolchain(HostToolchain::of_this_host()?),
        read_only: Vec::new(),
        shared: Vec::new(),
        work: Work {
            inside: InsidePath::try_from("/work")?,
            bytes: 1 << 20,
            owner: 0,
            store: HostPath::try_from(scratch.to_owned())?,
        },
        tmp_bytes: 1 << 20,
        limits: Limits {
            memory_bytes: 512 << 20,
            cpu_millis: 1000,
            processes: 16,
            open_files: 64,
            file_bytes: 1 << 20,
        },
        hostname: "trial".to_owned(),
        users: Vec::new(),
        loopback_names: Vec::new(),
        program: InsidePath::try_from("/bin/true")?,
        arguments: Vec::new(),
        environment: Vec::new(),
    })
}
