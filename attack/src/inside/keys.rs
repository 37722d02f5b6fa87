//! Ways to a key.

use std::{fs, io, path::Path};

use protocol::inside::WORKER_CONFIG;

use crate::{
    attack::{Attack, Category::Keys, Finding},
    line::Line,
    target::Target,
};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "token-file",
        category: Keys,
        tries: "the file with the worker's token",
        line: Line::ConfigMode,
        act: |_| Finding::of(fs::read(WORKER_CONFIG), "the token is read"),
    },
    Attack {
        name: "environments",
        category: Keys,
        tries: "a key in the environment of any process",
        line: Line::CleanEnvironment,
        act: |target| search(target, "environ"),
    },
    Attack {
        name: "worker-memory",
        category: Keys,
        tries: "the memory of the worker, through /proc",
        line: Line::Capabilities,
        act: |_| Finding::of(read_memory("1"), "the memory of PID 1 is read"),
    },
];

/// The numbers of all processes but this one.
pub(crate) fn processes() -> Vec<String> {
    let own = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && *name != own).collect()
}

fn search(target: &Target, file: &str) -> Finding {
    let found: Vec<_> = processes()
        .iter()
        .map(|pid| Path::new("/proc").join(pid).join(file))
        .filter(|path| fs::read(path).is_ok_and(|text| target.found_in(&text).is_some()))
        .map(|path| path.display().to_string())
        .collect();
    Finding::none_of(&found, "key")
}

fn read_memory(pid: &str) -> io::Result<usize> {
    use std::os::unix::fs::FileExt as _;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let start = maps.split('-').next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let start = start.ok_or_else(|| io::Error::other("no map of its memory"))?;
    fs::File::open(format!("/proc/{pid}/mem"))?.read_at(&mut [0; 16], start)
}
