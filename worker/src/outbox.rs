//! Writing into the outbox: each file whole, or not at all.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde::Serialize;

/// Makes a file, or empties it, that its user alone may open. The folder is closed to the others, but in gVisor
/// `/proc/PID/fd` leads around it.
///
/// # Errors
/// What the disk says.
pub fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Writes a value as JSON under another name, flushes it to the disk, and renames it.
///
/// # Errors
/// What the disk says.
pub fn write_whole(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = create(&next)?;
    serde_json::to_writer(&mut file, value)?;
    file.flush()?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
