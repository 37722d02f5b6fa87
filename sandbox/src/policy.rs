//! What a sandbox may see and use, as pure data that can be written to a file and read back.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{HostToolchain, ImageRoot};

/// Everything that makes one sandbox differ from another. What is not named here is not in the sandbox:
/// no network but its own loopback, no host folder, no device, no capability beyond the four that PID 1 needs
/// to hand work to other users (SETUID, SETGID, KILL, CHOWN).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name in runsc's records; unique on this machine.
    pub id: SandboxId,
    /// Where `/` comes from. Always read-only.
    pub root: Root,
    /// Host folders and files to read, never to write.
    pub read_only: Vec<Mount>,
    /// Host folders that both sides write: the doors, the outbox. Who may open what inside is said by the
    /// modes on the host.
    pub shared: Vec<Mount>,
    /// The one place to work in.
    pub work: Work,
    /// Size of `/tmp`, which is memory, in bytes.
    pub tmp_bytes: u64,
    /// What the sandbox may use of the machine.
    pub limits: Limits,
    /// What `hostname` answers inside.
    pub hostname: String,
    /// Who is in the made-up `/etc/passwd`, apart from root.
    pub users: Vec<User>,
    /// Names that `/etc/hosts` answers with 127.0.0.1, apart from `localhost`.
    pub loopback_names: Vec<String>,
    /// The program of PID 1, which runs as uid 0.
    pub program: InsidePath,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// Its environment. No secret belongs here: every user inside can read `/proc/1/environ`.
    pub environment: Vec<(String, String)>,
}

impl Policy {
    /// All that is mounted from the host to be read, the root's own parts first.
    pub(crate) fn read_only_mounts(&self) -> impl Iterator<Item = &Mount> {
        self.root.binds().iter().chain(&self.read_only)
    }
}

/// Where `/` comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// The host's own `/usr` and chosen parts of its `/etc`.
    HostToolchain(HostToolchain),
    /// An unpacked image, shared by all sandboxes that have it.
    Image(ImageRoot),
    /// What the runtime brings by itself: Docker's image.
    OfRuntime,
}

impl Root {
    /// What is mounted from the host to make it, read-only.
    pub(crate) fn binds(&self) -> &[Mount] {
        match self {
            Self::HostToolchain(toolchain) => &toolchain.binds,
            Self::Image(image) => &image.binds,
            Self::OfRuntime => &[],
        }
    }

    /// The links that lie beside them.
    pub(crate) fn links(&self) -> &[(InsidePath, PathBuf)] {
        match self {
            Self::HostToolchain(toolchain) => &toolchain.links,
            Self::Image(image) => &image.links,
            Self::OfRuntime => &[],
        }
    }
}

/// One thing of the host that is seen inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// What is mounted; it must be there when the sandbox starts.
    pub host: HostPath,
    /// Where it is seen.
    pub inside: InsidePath,
}

/// `/work`: the sandbox's own file system, thrown away with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Where it is seen.
    pub inside: InsidePath,
    /// Its size in bytes; writing more answers ENOSPC.
    pub bytes: u64,
    /// The uid and gid that own it.
    pub owner: u32,
    /// A host folder on a disk in which the store is kept (where runsc can: see [`crate::WorkStore`]). A folder
    /// named after the sandbox is made in it, and removed by [`crate::destroy()`].
    pub store: HostPath,
}

/// What a sandbox may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of memory for all inside together where the host's cgroups can be used, and of address space for
    /// each process (but never under 16 GiB: language runtimes reserve much) where they cannot.
    pub memory_bytes: u64,
    /// CPU time, in thousandths of one CPU. Only where the host's cgroups can be used.
    pub cpu_millis: u32,
    /// Processes and threads of each user inside (RLIMIT_NPROC).
    pub processes: u64,
    /// Open files of each process (RLIMIT_NOFILE).
    pub open_files: u64,
    /// Bytes of one file (RLIMIT_FSIZE).
    pub file_bytes: u64,
}

/// One line of `/etc/passwd`; the group has the user's name and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Both uid and gid.
    pub id: u32,
    /// Home folder.
    pub home: InsidePath,
}

/// A path that cannot be what was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{path:?} is not {expected}")]
pub struct BadPath {
    path: String,
    expected: &'static str,
}

/// The name of a sandbox: 1 to 64 of letters, digits, `.`, `_`, `-`, the first a letter or a digit, so that it
/// is a plain file name and a name that runsc takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxId(String);

impl SandboxId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SandboxId {
    type Error = BadPath;

    fn try_from(id: String) -> Result<Self, BadPath> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let fits = id.len() <= 64 && id.starts_with(|c: char| c.is_ascii_alphanumeric());
        if fits && id.chars().all(plain) {
            Ok(Self(id))
        } else {
            Err(BadPath { path: id, expected: "a sandbox's name (1 to 64 letters, digits, '.', '_', '-')" })
        }
    }
}

impl From<SandboxId> for String {
    fn from(id: SandboxId) -> Self {
        id.0
    }
}

/// A path on the host: absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
pub struct HostPath(PathBuf);

impl HostPath {
    /// The path itself.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl TryFrom<PathBuf> for HostPath {
    type Error = BadPath;

    fn try_from(path: PathBuf) -> Result<Self, BadPath> {
        if path.is_absolute() && path.to_str().is_some() {
            Ok(Self(path))
        } else {
            Err(BadPath { path: path.to_string_lossy().into_owned(), expected: "an absolute path in UTF-8" })
        }
    }
}

impl From<HostPath> for PathBuf {
    fn from(path: HostPath) -> Self {
        path.0
    }
}

/// A path inside the sandbox: absolute, below `/`, without `.` and `..`, so that a mount point made for it can
/// never leave the root folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
pub struct InsidePath(PathBuf);

impl InsidePath {
    /// The path itself.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The same path below a host folder.
    pub(crate) fn below(&self, folder: &Path) -> PathBuf {
        folder.join(self.0.strip_prefix("/").unwrap_or(&self.0))
    }
}

impl TryFrom<PathBuf> for InsidePath {
    type Error = BadPath;

    fn try_from(path: PathBuf) -> Result<Self, BadPath> {
        let mut parts = path.components();
        let rooted = parts.next() == Some(Component::RootDir);
        let normal = parts.clone().count() > 0 && parts.all(|part| matches!(part, Component::Normal(_)));
        if rooted && normal && path.to_str().is_some() {
            Ok(Self(path))
        } else {
            Err(BadPath {
                path: path.to_string_lossy().into_owned(),
                expected: "an absolute path below / without '..', in UTF-8",
            })
        }
    }
}

impl TryFrom<&str> for InsidePath {
    type Error = BadPath;

    fn try_from(path: &str) -> Result<Self, BadPath> {
        Self::try_from(PathBuf::from(path))
    }
}

impl From<InsidePath> for PathBuf {
    fn from(path: InsidePath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_paths_cannot_leave_the_root_folder() {
        for bad in ["", "/", "work", "/../etc", "/work/../../etc"] {
            assert!(InsidePath::try_from(bad).is_err(), "{bad:?} was taken");
        }
        let good = InsidePath::try_from("/run/doors").expect("a plain path");
        assert_eq!(good.below(Path::new("/tmp/root")), Path::new("/tmp/root/run/doors"));
    }

    #[test]
    fn a_sandbox_id_is_a_plain_file_name() {
        for bad in ["", "..", "a/b", "-x", "a b", &"x".repeat(65)] {
            assert!(SandboxId::try_from(bad.to_owned()).is_err(), "{bad:?} was taken");
        }
        assert!(SandboxId::try_from("worker-01a".to_owned()).is_ok());
    }
}
