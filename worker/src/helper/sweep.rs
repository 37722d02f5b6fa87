//! `sweep`: removes what a user left in folders that others write to, too.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{HELPER_FAILED, become_user::become_user, fail};
use crate::command_line::User;

/// Anybody may write.
const BY_OTHERS: u32 = 0o002;

/// Exits 0 when nothing of the user's is left in the folders but empty folders in another user's.
#[must_use]
pub fn sweep(user: User, but: &[PathBuf], folders: &[PathBuf]) -> ExitCode {
    // Before anything is removed: then it is the user's own.
    if let Err(error) = become_user(user) {
        return fail(HELPER_FAILED, format_args!("cannot become user {}: {error}", user.uid));
    }
    let mut left = Vec::new();
    folders.iter().for_each(|folder| sweep_folder(folder, user.uid, but, &mut left));
    match left.first() {
        None => ExitCode::SUCCESS,
        Some((path, error)) => fail(
            HELPER_FAILED,
            format_args!("{} paths stay; the first is {}: {error}", left.len(), path.display()),
        ),
    }
}

fn sweep_folder(folder: &Path, uid: u32, but: &[PathBuf], left: &mut Vec<(PathBuf, io::Error)>) {
    // One that is not there, or not open to the user, holds nothing of the user's.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(found) = path.symlink_metadata() else { continue };
        if but.contains(&path) {
            continue;
        }
        if found.uid() == uid {
            if let Err(error) = remove(&path, found.is_dir()) {
                left.push((path, error));
            }
        } else if found.is_dir() && found.mode() & BY_OTHERS != 0 {
            sweep_folder(&path, uid, but, left);
        }
    }
}

/// No link is followed: not by `remove_dir_all`, and modes are changed of folders alone.
fn remove(path: &Path, is_dir: bool) -> io::Result<()> {
    if !is_dir {
        return fs::remove_file(path);
    }
    open_up(path);
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        // It stands in another's folder, who removes it, empty and open as it is now.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            fs::set_permissions(path, Permissions::from_mode(0o755))
        }
        removed => removed,
    }
}

/// A folder that its owner may not enter is not emptied.
fn open_up(folder: &Path) {
    // What cannot be opened is met again when it is to be removed.
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
