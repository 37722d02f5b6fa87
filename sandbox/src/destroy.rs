//! Ends a sandbox and leaves nothing behind, from nothing but its folder and its name.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::policy::SandboxId;
use crate::runsc::Runsc;
use crate::start::Files;
use crate::{cgroup, leftovers};

/// How long one call of runsc may take before we go on without it.
const RUNSC_SECONDS: Duration = Duration::from_secs(20);
/// How often, and how long apart, a cgroup is tried whose last process is still on its way out.
const TRIES: u32 = 200;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// Something of a sandbox is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove {path}, which is left of the sandbox {id}: {source}; remove it by hand")]
pub struct DestroyError {
    id: SandboxId,
    path: PathBuf,
    source: io::Error,
}

/// Ends what runs of the sandbox and removes all that it had, `folder` included. Idempotent: it can be called
/// twice, on a sandbox that was never finished, and by a process that did not start it.
pub async fn destroy(runsc: &Runsc, folder: &Path, id: &SandboxId) -> Result<(), DestroyError> {
    end_processes(runsc, folder, id).await;
    let failed = |path: &Path| {
        let (id, path) = (id.clone(), path.to_owned());
        move |source| DestroyError { id, path, source }
    };
    let files = Files(folder);
    remove_cgroups(&cgroups(folder)).await.map_err(failed(&files.cgroups()))?;
    // Only a folder that bears the sandbox's name is its store.
    if let Ok(store) = fs::read_link(files.store())
        && store.file_name() == Some(OsStr::new(id.as_str()))
    {
        remove(&store).map_err(failed(&store))?;
    }
    remove(folder).map_err(failed(folder))
}

/// Ends everything that runs of the sandbox, first in runsc's own way.
pub(crate) async fn end_processes(runsc: &Runsc, folder: &Path, id: &SandboxId) {
    let state = Files(folder).state();
    let known = fs::read_dir(&state).is_ok_and(|mut entries| entries.next().is_some());
    if known && let Err(error) = self::runsc(runsc, &state, ["delete", "--force", id.as_str()]).await {
        tracing::debug!(sandbox = %id, %error, "runsc delete");
    }
    let also = cgroup::processes(&cgroups(folder));
    // An error is a panic in there, and then what is left shows when its folders are removed.
    let _ = tokio::task::spawn_blocking(move || leftovers::end(&state, &also)).await;
}

/// Runs a subcommand of runsc on this sandbox.
pub(crate) async fn runsc<const N: usize>(
    runsc: &Runsc,
    state: &Path,
    arguments: [&str; N],
) -> io::Result<Output> {
    let child = Command::new(&runsc.program)
        .args(runsc.arguments(state))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(RUNSC_SECONDS, child).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn cgroups(folder: &Path) -> Vec<PathBuf> {
    let text = fs::read(Files(folder).cgroups()).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

async fn remove_cgroups(folders: &[PathBuf]) -> io::Result<()> {
    for _ in 0..TRIES {
        match cgroup::remove(folders) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            done => return done,
        }
    }
    cgroup::remove(folders)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
