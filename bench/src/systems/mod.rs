//! The systems that are measured: ours, and what it is held against. One file each.

pub(crate) mod beanstalkd;
pub(crate) mod far_end;
pub(crate) mod fdatasync;
pub(crate) mod gateways;
pub(crate) mod model;
pub(crate) mod noop;
pub(crate) mod ours;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod relays;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::Process;
use tempfile::TempDir;

/// The bytes of what a task is to do, in every system.
pub(crate) const BODY_BYTES: usize = 512;

/// The pause between two looks at what says nothing when it is ready.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A folder for the data of all systems: all on one disk.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("cw-bench-").tempdir().expect("a temporary folder");
    let tmpfs = 0x0102_1994;
    let found = rustix::fs::statfs(folder.path()).expect("the folder is there");
    assert!(
        found.f_type != tmpfs,
        "{} is in memory; set TMPDIR to a folder on a disk",
        folder.path().display()
    );
    // PostgreSQL runs as another user, and has to pass here.
    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(folder.path(), open).expect("the folder is ours");
    folder
}

/// The first of these programs that is installed.
fn installed(candidates: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    candidates
        .iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
}

/// The processor time that a process has used, in microseconds: what a shared machine lets one compare. Its grain is
/// 10 ms (`proc(5)`: `stat`, fields 14 and 15).
pub(crate) fn processor_us(process: &Process) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).expect("it runs");
    let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest).expect("a name in brackets");
    let used = after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    used.sum::<f64>() * 10_000.0
}

/// An empty folder inside another.
fn new_folder(inside: &Path, name: &str) -> PathBuf {
    let folder = inside.join(name);
    std::fs::create_dir(&folder).expect("a new folder");
    folder
}
