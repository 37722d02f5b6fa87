//! The agent's HOME, made once for the run.

use std::{fs, io, os::unix::fs::chown, path::Path};

use crate::{git, places::Places};

/// Makes HOME with git's configuration and these files (path below HOME, content) in it, and gives all of it to
/// the agent. The worker cannot write there afterwards.
///
/// # Errors
/// What the file system says.
pub(crate) fn make(places: &Places, files: &[(String, String)]) -> io::Result<()> {
    let home = places.home();
    fs::create_dir(&home)?;
    fs::write(home.join(".gitconfig"), git::configuration(places))?;
    for (path, content) in files {
        let path = home.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&home))?;
        fs::write(path, content)?;
    }
    give(places, &home)
}

/// Writes a turn's prompt where the agent can read it and not change it.
///
/// # Errors
/// What the file system says.
pub(crate) fn write_prompt(places: &Places, prompt: &str) -> io::Result<()> {
    fs::write(places.prompt_file(), prompt)
}

/// Makes the folder for the result, and gives it to the agent's user, of whom nothing runs any more.
///
/// # Errors
/// What the file system says.
pub(crate) fn make_result(places: &Places) -> io::Result<()> {
    fs::create_dir(places.result())?;
    give(places, &places.result())
}

fn give(places: &Places, path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(places, &entry?.path())?;
        }
    }
    chown(path, Some(places.agent.uid), Some(places.agent.gid))
}
