//! Ways to a file or a device of the host.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{
    attack::{Attack, Category::Files, Finding},
    line::Line,
    target::Target,
};

const fn attack(name: &'static str, line: Line, tries: &'static str, act: fn(&Target) -> Finding) -> Attack {
    Attack { name, category: Files, tries, line, act }
}

pub(crate) const ATTACKS: &[Attack] = &[
    attack(
        "host-home",
        Line::HostFolders,
        "secrets in the home folder of the host's user, by their paths",
        |target| Finding::none_of(&marks_below(target, &target.home), "secret"),
    ),
    attack("host-homes", Line::HostFolders, "/root, /home and what people mount", |target| {
        let tops = ["/root", "/home", "/mnt", "/media", "/host", "/rootfs", "/srv", "/var"];
        let found: Vec<_> = tops.iter().flat_map(|top| marks_below(target, Path::new(top))).collect();
        Finding::none_of(&found, "secret")
    }),
    attack("host-etc", Line::HostFolders, "passwords and keys in /etc", |_| {
        Finding::all(ETC.iter().map(|path| {
            let read = fs::read(path).map_err(|error| format!("{path}: {error}"));
            Finding::of(read, &format!("{path} is read"))
        }))
    }),
    attack("strange-mounts", Line::HostFolders, "a mount that the policy does not name", |_| {
        strange_mounts()
    }),
    attack("host-boot", Line::HostProc, "the host's own /proc: the id of its boot", |target| {
        let id = target.boot_id.text();
        let found: Vec<_> = proc_folders()
            .into_iter()
            .map(|proc| proc.join("sys/kernel/random/boot_id"))
            .filter(|path| fs::read_to_string(path).is_ok_and(|text| text.trim() == id))
            .map(|path| path.display().to_string())
            .collect();
        Finding::none_of(&found, "id of the host's boot")
    }),
    attack("host-processes", Line::HostProc, "the arguments of the host's processes", |target| {
        let folders = proc_folders().into_iter().filter(|proc| proc != Path::new("/proc"));
        let found: Vec<_> = folders.flat_map(|proc| marks_below(target, &proc)).collect();
        Finding::none_of(&found, "process")
    }),
    attack("write-root", Line::ReadOnly, "a file in /", |_| written(Path::new("/attacked"))),
    attack("write-etc", Line::ReadOnly, "another user, in /etc/passwd", |_| {
        Finding::of(fs::OpenOptions::new().append(true).open("/etc/passwd"), "/etc/passwd is open to write")
    }),
    attack("write-usr", Line::ReadOnly, "the host's programs", |_| {
        Finding::all(
            ["/usr/attacked", "/usr/bin/attacked", "/usr/local/attacked"].map(Path::new).map(written),
        )
    }),
    attack("write-mirror", Line::ReadOnly, "the mirror that all sandboxes of a repository share", |_| {
        let mirror = Path::new(protocol::inside::MIRROR);
        Finding::all(
            ["hooks/post-checkout", "objects/attacked", "attacked"].map(|path| written(&mirror.join(path))),
        )
    }),
    attack("write-agents", Line::ReadOnly, "the agents' programs, which all sandboxes share", |_| {
        written(&Path::new(protocol::inside::AGENT_PROGRAMS).join("attacked"))
    }),
    attack("replace-worker", Line::ReadOnly, "another program beside the worker's", |_| {
        written(&Path::new(protocol::inside::BIN).join("attacked"))
    }),
    attack(
        "plant-in-doors",
        Line::FolderModes,
        "a link in the folder of the doors, which the host looks into",
        |_| planted(protocol::inside::DOORS),
    ),
    attack("swap-door", Line::FolderModes, "another socket in a door's place", |_| {
        let door = Path::new(protocol::inside::DOORS).join(protocol::inside::GATEWAY_DOOR);
        let moved = door.with_extension("moved");
        let tried = fs::rename(&door, &moved).and_then(|()| fs::rename(&moved, &door));
        Finding::of(tried, "the door is moved")
    }),
    attack("plant-in-outbox", Line::FolderModes, "a link in the outbox, which the host delivers", |_| {
        planted(protocol::inside::OUTBOX)
    }),
    attack(
        "race-in-outbox",
        Line::FolderModes,
        "a folder of the outbox that is a link half of the time",
        |_| race(),
    ),
    attack("give-file-to-root", Line::AgentUser, "a setuid file of root's", |_| {
        let path = Path::new("/tmp/attack-setuid");
        let made = fs::write(path, "").and_then(|()| std::os::unix::fs::chown(path, Some(0), Some(0)));
        let _ = fs::remove_file(path);
        Finding::of(made, "the file is root's")
    }),
];

/// What no agent reads on a host.
const ETC: [&str; 8] = [
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/ssl/private/ssl-cert-snakeoil.key",
    "/etc/kubernetes/admin.conf",
    "/etc/docker/daemon.json",
    "/etc/machine-id",
];

/// Places where mounts are expected: a toolchain's, the sandbox's own, and ours.
const MOUNTS: [&str; 15] = [
    "/",
    "/proc",
    "/sys",
    "/dev",
    "/tmp",
    "/work",
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/etc",
    "/opt/code-workers",
    "/opt/agents",
    "/mirror.git",
    "/run/code-workers",
];

fn mounts() -> Vec<PathBuf> {
    let listed = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    listed.lines().filter_map(|line| line.split(' ').nth(1).map(PathBuf::from)).collect()
}

fn strange_mounts() -> Finding {
    let expected = |point: &Path| {
        let below = |known: &&str| *known != "/" && point.starts_with(known);
        // lib32, lib64, libx32
        point == Path::new("/") || MOUNTS.iter().any(below) || point.to_string_lossy().starts_with("/lib")
    };
    let own = ["/etc/shadow", "/etc/ssh"].map(Path::new);
    let strange: Vec<_> = mounts()
        .into_iter()
        .filter(|point| !expected(point) || own.iter().any(|own| point.starts_with(own)))
        .map(|point| point.display().to_string())
        .collect();
    Finding::none_of(&strange, "strange mount")
}

/// Folders that may be a host's /proc.
fn proc_folders() -> Vec<PathBuf> {
    let named = ["/proc", "/host/proc", "/hostproc", "/mnt/proc"].map(PathBuf::from);
    let mounted = mounts().into_iter().filter(|point| point.join("sys/kernel/random/boot_id").exists());
    named.into_iter().chain(mounted).collect()
}

fn written(path: &Path) -> Finding {
    let tried = fs::OpenOptions::new().create(true).append(true).open(path);
    let tried = tried.map_err(|error| format!("{}: {error}", path.display()));
    Finding::of(tried, &format!("{} is written", path.display()))
}

fn planted(folder: &str) -> Finding {
    let folder = Path::new(folder);
    Finding::all([
        Finding::of(symlink("/etc/passwd", folder.join("attacked")), "a link is planted"),
        Finding::of(fs::hard_link("/work/README", folder.join("attacked-hard")), "a hard link is planted"),
        written(&folder.join("attacked-file")),
    ])
}

fn race() -> Finding {
    let folder = Path::new(protocol::inside::OUTBOX).join("events");
    let other = folder.with_extension("attacked");
    let turn = || {
        let _ = fs::rename(&folder, &other);
        symlink("/etc", &folder)?;
        fs::remove_file(&folder)
    };
    let tried: io::Result<()> = (0..50).try_for_each(|_| turn());
    let _ = fs::rename(&other, &folder);
    Finding::of(tried, "the folder was a link")
}

/// Files below a folder that hold what must not be inside; links are not followed.
pub(super) fn marks_below(target: &Target, folder: &Path) -> Vec<String> {
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
