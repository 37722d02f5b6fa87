//! Which parts of the host make a root that compilers, interpreters and git work in.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::policy::{HostPath, InsidePath, Mount};

/// Read-only binds and links that turn an empty folder into the host's toolchain. `/home`, `/root`, `/var`,
/// `/run` and the rest of `/etc` are never part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostToolchain {
    /// Links at the root, such as `/bin` → `usr/bin`.
    pub links: Vec<(InsidePath, PathBuf)>,
    /// Host folders and files that are seen at their own place.
    pub binds: Vec<Mount>,
}

/// The host's folders could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot look at {path} to build a sandbox's root from the host's toolchain: {why}")]
pub struct ToolchainError {
    path: PathBuf,
    why: io::Error,
}

/// Folders that are links into `/usr` on a merged host and folders of their own on an older one.
const USR_ALIASES: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What programs read of `/etc` and that holds no secret: no `ssl/private`, no `passwd`, no `npmrc`. Without
/// `alternatives` there is no `awk` on Debian, without `ld.so.*` libraries in odd places are not found. (Not
/// `maven`, whose settings may hold passwords.)
const ETC: [&str; 17] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/perl",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];

/// Folders of language runtimes, one a version, into which `/usr` holds links.
const ETC_RUNTIMES: [&str; 2] = ["java-", "python3"];

impl HostToolchain {
    /// Looks at this host. Links stay links; what is not there is left out.
    pub fn of_this_host() -> Result<Self, ToolchainError> {
        let mut found = Self::default();
        for path in ["/usr"].into_iter().chain(USR_ALIASES).chain(ETC) {
            found.take(Path::new(path)).map_err(|why| ToolchainError { path: path.into(), why })?;
        }
        let etc = Path::new("/etc");
        found.take_runtimes(etc).map_err(|why| ToolchainError { path: etc.into(), why })?;
        Ok(found)
    }

    fn take_runtimes(&mut self, etc: &Path) -> io::Result<()> {
        let mut names: Vec<_> =
            etc.read_dir()?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        let is_runtime = |name: &str| ETC_RUNTIMES.iter().any(|start| name.starts_with(start));
        names
            .iter()
            .filter(|name| name.to_str().is_some_and(is_runtime))
            .try_for_each(|name| self.take(&etc.join(name)))
    }

    fn take(&mut self, path: &Path) -> io::Result<()> {
        let kind = match path.symlink_metadata() {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let inside = InsidePath::try_from(path.to_owned()).map_err(io::Error::other)?;
        if kind.is_symlink() {
            self.links.push((inside, path.read_link()?));
        } else {
            let host = HostPath::try_from(path.to_owned()).map_err(io::Error::other)?;
            self.binds.push(Mount { host, inside });
        }
        Ok(())
    }
}
