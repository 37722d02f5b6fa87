//! One refresh or import of a mirror at a time.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::RepositoryError;

/// Held until dropped, and released by the kernel when the process dies.
pub(crate) struct MirrorLock(#[expect(dead_code, reason = "held for its lock")] File);

impl MirrorLock {
    /// Waits for its turn. The lock file stands beside the mirror, not in it: a sandbox sees the mirror.
    pub(crate) fn take(mirror: &Path) -> Result<Self, RepositoryError> {
        let failed = |error: &std::io::Error| {
            RepositoryError::io(&format!("cannot lock the mirror {}", mirror.display()), error)
        };
        let path = lock_path_of(mirror);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(|error| failed(&error))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(&error.into()))?;
        Ok(Self(file))
    }
}

fn lock_path_of(mirror: &Path) -> PathBuf {
    let mut path = OsString::from(mirror);
    path.push(".lock");
    path.into()
}
