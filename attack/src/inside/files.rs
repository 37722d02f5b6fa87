//! Ways to a file or a device of the host.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    attack::{Attack, Category::Files, Finding},
    line::Line,
    target::Target,
};

pub(crate) const ATTACKS: &[Attack] = &[Attack {
    name: "host-home",
    category: Files,
    tries: "secrets in the home folder of the host's user, by their paths",
    line: Line::NoHome,
    act: |target| Finding::none_of(&marks_below(target, &target.home), "secret"),
}];

/// Files below a folder that hold what must not be inside; links are not followed.
fn marks_below(target: &Target, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(entries) = folders.pop().map(fs::read_dir) {
        for entry in entries.into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    let holds = fs::read(entry.path()).is_ok_and(|text| target.found_in(&text).is_some());
                    found.extend(holds.then(|| entry.path().display().to_string()));
                }
                _ => {}
            }
        }
    }
    found
}
