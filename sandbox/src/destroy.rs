//! Ends a sandbox and leaves nothing behind, from nothing but its folder and its name.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::policy::SandboxId;
use crate::start::Files;
use crate::{cgroup, leftovers, process};

/// How often it is looked for what was started while the others were killed.
const PASSES: u32 = 20;
/// How often, and how long apart, a cgroup is tried whose last process is still on its way out.
const TRIES: u32 = 200;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// Something of a sandbox is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove {path}, which is left of the sandbox {id}: {why}; remove it by hand")]
pub struct DestroyError {
    id: SandboxId,
    path: PathBuf,
    why: io::Error,
}

impl DestroyError {
    pub(crate) fn new(id: &SandboxId, path: &Path, why: io::Error) -> Self {
        Self { id: id.clone(), path: path.to_owned(), why }
    }
}

/// Ends what runs of the sandbox and removes all that it had, `folder` included. Idempotent: it can be called
/// twice, on a sandbox that was never finished, and by a process that did not start it.
pub(crate) async fn destroy(folder: &Path, id: &SandboxId) -> Result<(), DestroyError> {
    end_processes(folder).await;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |why| DestroyError::new(id, &path, why)
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

/// Ends everything that runs of the sandbox. By force: `runsc delete --force` waits in vain for a sandbox whose
/// `runsc run` still lives, and what it would clear away is in the folder anyway.
pub(crate) async fn end_processes(folder: &Path) {
    let folder = folder.to_owned();
    // An error is a panic in there, and then what is left shows when its folders are removed.
    let _ = tokio::task::spawn_blocking(move || {
        for _ in 0..PASSES {
            let mut also = cgroup::processes(&cgroups(&folder));
            also.extend(process::of(&folder));
            leftovers::end(&Files(&folder).state(), &also);
            if process::of(&folder).is_empty() {
                break;
            }
        }
    })
    .await;
}

/// Ends what runs and empties what it wrote, so that the same bundle can be started again.
pub(crate) async fn start_over(folder: &Path) -> io::Result<()> {
    end_processes(folder).await;
    for folder in [Files(folder).state(), Files(folder).store()] {
        for entry in fs::read_dir(folder)? {
            fs::remove_file(entry?.path())?;
        }
    }
    Ok(())
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
        // On the bare host: folders that were closed, such as Go's module cache is.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(folder);
            fs::remove_dir_all(folder)
        }
        done => done,
    }
}

/// Makes folders writable for their owner, links not followed. What cannot be opened is told when it is to be removed.
fn open_up(folder: &Path) {
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
