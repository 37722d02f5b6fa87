//! `count-files`: how many files and folders are below a folder, for a worker that may not look into it itself.

use std::{fs, io::Write as _, path::Path, process::ExitCode};

use super::{HELPER_FAILED, fail};

/// Writes the number, `most` at most. Links are counted and not followed; what cannot be read is passed over.
#[must_use]
pub fn count_files(folder: &Path, most: u64) -> ExitCode {
    let (mut found, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            found += 1;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
            if found >= most {
                folders.clear();
                break;
            }
        }
    }
    match writeln!(std::io::stdout().lock(), "{found}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(HELPER_FAILED, error),
    }
}
