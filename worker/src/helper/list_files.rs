//! `list-files`: writes files to standard output for a reader that must not open them itself.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use protocol::limits;
use serde::{Deserialize, Serialize};

use super::{HELPER_FAILED, fail};

/// Folders below which nothing is looked at: deeper trees are no artifacts.
const DEPTH: usize = 8;

/// What stands before a file's bytes: a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeader {
    /// The path below the folder; what is not UTF-8 is replaced.
    pub path: String,
    /// Its bytes.
    pub size: u64,
}

impl FileHeader {
    /// How many bytes follow; `None` for a file that is no artifact by its size, of which nothing follows.
    #[must_use]
    pub fn follow(&self) -> Option<u64> {
        (self.size <= limits::ARTIFACT_BYTES).then_some(self.size)
    }
}

/// Links are not followed; what is neither folder nor regular file is left out. A folder that is not there is
/// empty.
#[must_use]
pub fn list_files(folder: &Path) -> ExitCode {
    let mut found = Vec::new();
    walk(folder, DEPTH, &mut found);
    found.sort();
    let mut out = io::stdout().lock();
    for path in found {
        if let Err(error) = write_one(folder, &path, &mut out) {
            return fail(HELPER_FAILED, format_args!("{}: {error}", path.display()));
        }
    }
    match out.flush() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(HELPER_FAILED, error),
    }
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let is_folder = fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir());
    let Some(entries) = is_folder.then(|| fs::read_dir(folder).ok()).flatten() else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            Ok(kind) if kind.is_dir() && depth > 0 => walk(&entry.path(), depth - 1, found),
            _ => {}
        }
    }
}

fn write_one(folder: &Path, path: &Path, out: &mut impl Write) -> io::Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let size = file.metadata()?.len();
    let below = path.strip_prefix(folder).unwrap_or(path);
    let header =
        FileHeader { path: String::from_utf8_lossy(below.as_os_str().as_bytes()).into_owned(), size };
    serde_json::to_writer(&mut *out, &header)?;
    out.write_all(b"\n")?;
    let Some(follow) = header.follow() else { return Ok(()) };
    let copied = io::copy(&mut file.take(follow), out)?;
    if copied < follow { Err(io::Error::other("became shorter while it was read")) } else { Ok(()) }
}
