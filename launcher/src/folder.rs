//! One sandbox's folder on the host, `run/sandboxes/<worker id>` in the data folder: what outlives the processes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::folders::Folders;
use protocol::inside::{COORDINATOR_DOOR, GATEWAY_DOOR, Outbox, WorkerConfig};
use protocol::{Secret, WorkerId};
use rustix::fs::{FlockOperation, flock};
use sandbox::{Policy, Runtime};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A folder that changed no longer ago than this may be half-made.
const YOUNG: Duration = Duration::from_secs(60);

/// All that a keeper needs to run its sandbox, and that a later launcher needs to clear it away. Holds no
/// secret.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) policy: Policy,
    pub(crate) runtime: Runtime,
    pub(crate) relay: PathBuf,
}

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct SandboxFolder(PathBuf);

/// Held while somebody looks after the sandbox; let go by the kernel when that process dies.
#[derive(Debug)]
pub(crate) struct Watch(#[expect(dead_code, reason = "held for its lock")] File);

/// Bytes of a unix socket's path at most (unix(7), without its NUL).
const SOCKET_PATH: usize = 107;

/// Whether a program outside of any sandbox can call the doors of a worker's sandbox: inside one they are at a short
/// path, whatever it is here.
///
/// # Errors
/// What is in the way, and what to do.
pub(crate) fn doors_in_reach(folders: &Folders) -> anyhow::Result<()> {
    let door = of_worker(folders, &WorkerId::generate()).coordinator_door();
    let bytes = door.as_os_str().len();
    anyhow::ensure!(
        bytes <= SOCKET_PATH,
        "--sandbox none cannot be had with this data folder: the worker's socket would be at a path of {bytes} bytes \
         ({}), and a unix socket's has {SOCKET_PATH} at most; name a data folder that is {} bytes shorter in \
         XDG_DATA_HOME",
        door.display(),
        bytes - SOCKET_PATH,
    );
    Ok(())
}

impl SandboxFolder {
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn doors(&self) -> PathBuf {
        self.0.join("doors")
    }

    pub(crate) fn coordinator_door(&self) -> PathBuf {
        self.doors().join(COORDINATOR_DOOR)
    }

    pub(crate) fn gateway_door(&self) -> PathBuf {
        self.doors().join(GATEWAY_DOOR)
    }

    pub(crate) fn outbox(&self) -> Outbox {
        Outbox::at(self.0.join("outbox"))
    }

    /// The folder that is mounted for the worker's configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config")
    }

    /// The folder that belongs to the sandbox room.
    pub(crate) fn sandbox(&self) -> PathBuf {
        self.0.join("sandbox")
    }

    /// What the keeper logs.
    pub(crate) fn keeper_log(&self) -> PathBuf {
        self.0.join("keeper.log")
    }

    /// Makes the folder with all but the plan, and looks after it from the start. It must not be there yet.
    pub(crate) fn make(&self, worker: &WorkerConfig) -> io::Result<Watch> {
        if let Some(parent) = self.0.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let folder = |path: &Path, mode| DirBuilder::new().mode(mode).create(path);
        folder(&self.0, 0o700)?;
        let watch = self.watch()?;
        folder(&self.doors(), 0o755)?;
        // The umask may have taken what users inside need to reach their doors.
        fs::set_permissions(self.doors(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        folder(self.outbox().folder(), 0o700)?;
        folder(&self.config(), 0o700)?;
        write_private(&self.config().join("worker.json"), worker)?;
        Ok(watch)
    }

    /// Writes the worker's token where the sandbox room takes it from: for what can be told in no other way.
    pub(crate) fn write_token(&self, token: &Secret) -> io::Result<()> {
        let path = sandbox::token_file(&self.sandbox());
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        file.write_all(token.expose().as_bytes())
    }

    /// Whether it may be just being made, by somebody who does not hold its lock yet.
    pub(crate) fn is_young(&self) -> bool {
        let changed = self.0.metadata().and_then(|folder| folder.modified());
        changed.is_ok_and(|time| time.elapsed().map_or(true, |age| age < YOUNG))
    }

    /// Writes the plan: from now on there is something to keep.
    pub(crate) fn write_plan(&self, plan: &Plan) -> io::Result<()> {
        write_private(&self.0.join("plan.json"), plan)
    }

    pub(crate) fn plan(&self) -> io::Result<Plan> {
        read(&self.0.join("plan.json"))
    }

    pub(crate) fn worker(&self) -> io::Result<WorkerConfig> {
        read(&self.config().join("worker.json"))
    }

    /// Looks after this sandbox, beside others who do.
    pub(crate) fn watch(&self) -> io::Result<Watch> {
        self.lock(FlockOperation::NonBlockingLockShared)
    }

    /// Takes over a sandbox that nobody looks after; `None` when somebody does.
    pub(crate) fn take_over(&self) -> io::Result<Option<Watch>> {
        match self.lock(FlockOperation::NonBlockingLockExclusive) {
            Ok(watch) => Ok(Some(watch)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes it over as soon as nobody looks after it any more: waits for that, and blocks its thread meanwhile. `None`
    /// when whoever did has removed it.
    pub(crate) fn take_over_later(&self) -> io::Result<Option<Watch>> {
        // Not made anew: the folder may be going away.
        let file = match OpenOptions::new().append(true).open(self.0.join("lock")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(self.0.join("lock").exists().then_some(Watch(file)))
    }

    fn lock(&self, how: FlockOperation) -> io::Result<Watch> {
        let path = self.0.join("lock");
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        flock(&file, how)?;
        Ok(Watch(file))
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// All folders of sandboxes below `sandboxes`.
    pub(crate) fn all(sandboxes: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(sandboxes) else { return Vec::new() };
        entries
            .filter_map(|entry| Some(Self(entry.ok()?.path())))
            .filter(|folder| folder.0.is_dir())
            .collect()
    }
}

/// The folder of a worker.
pub(crate) fn of_worker(folders: &Folders, worker: &WorkerId) -> SandboxFolder {
    SandboxFolder(folders.sandbox(worker))
}

fn write_private(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec_pretty(value)?)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn doors_are_in_reach_as_far_as_a_socket_can_be_bound() {
        let home = tempfile::tempdir().unwrap();
        let folders = |more: usize| {
            let data = home.path().join("d".repeat(more)).display().to_string();
            Folders::from_env(
                &[("HOME".to_owned(), "/".to_owned()), ("XDG_DATA_HOME".to_owned(), data)].into(),
            )
        };
        for more in 1..100 {
            let folders = folders(more).unwrap();
            let door = of_worker(&folders, &WorkerId::generate()).coordinator_door();
            fs::create_dir_all(door.parent().unwrap()).unwrap();
            let bound = UnixListener::bind(&door);
            let told = doors_in_reach(&folders);
            assert_eq!(bound.is_ok(), told.is_ok(), "{}: {told:?}", door.display());
        }
        let told = doors_in_reach(&folders(100).unwrap()).unwrap_err().to_string();
        assert!(told.contains("XDG_DATA_HOME") && told.contains("107 at most"), "{told}");
    }
}
