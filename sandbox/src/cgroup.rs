//! A cgroup for each sandbox, made by us and holding all of runsc's processes, so that the memory and CPU of a
//! sandbox are bounded as a whole, and what the kernel killed can still be read when runsc is gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::policy::{Limits, SandboxId};

/// Existing cgroups below which we can make ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cgroups {
    /// The older kind, one tree a controller.
    V1 {
        /// In the memory controller's tree.
        memory: PathBuf,
        /// In the CPU controller's tree, where it is mounted.
        cpu: Option<PathBuf>,
    },
    /// The unified tree; this cgroup hands memory to its children.
    V2 {
        /// The cgroup below which ours are made.
        parent: PathBuf,
        /// Whether it can hand on the CPU too: systemd before version 252 gives plain users none.
        cpu: bool,
    },
}

const CPU_PERIOD_MICROS: u64 = 100_000;

impl Cgroups {
    /// Every place that may do on this machine, the best first.
    pub(crate) fn candidates() -> Vec<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let hands_cpu = |parent: &Path| {
            let controllers = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
            controllers.split_whitespace().any(|controller| controller == "cpu")
        };
        candidates(&mounts, &own, hands_cpu)
    }

    /// Whether they hold a sandbox to its share of the CPU, beside its memory.
    pub fn limit_cpu(&self) -> bool {
        match self {
            Self::V1 { cpu, .. } => cpu.is_some(),
            Self::V2 { cpu, .. } => *cpu,
        }
    }

    /// Makes the cgroup of a sandbox and sets its limits; answers its folders, into whose `cgroup.procs` the
    /// first process is to be written. What was made is removed again on an error.
    pub(crate) fn make(&self, id: &SandboxId, limits: &Limits) -> io::Result<Vec<PathBuf>> {
        let folders = self.folders(id);
        let made = self.fill(&folders, limits);
        if made.is_err() {
            remove(&folders)?;
        }
        made.map(|()| folders)
    }

    pub(crate) fn folders(&self, id: &SandboxId) -> Vec<PathBuf> {
        let name = format!("code-workers-{id}");
        match self {
            Self::V1 { memory, cpu } => {
                [Some(memory), cpu.as_ref()].into_iter().flatten().map(|parent| parent.join(&name)).collect()
            }
            Self::V2 { parent, .. } => vec![parent.join(name)],
        }
    }

    fn fill(&self, folders: &[PathBuf], limits: &Limits) -> io::Result<()> {
        let quota = u64::from(limits.cpu_millis) * CPU_PERIOD_MICROS / 1000;
        if let Self::V2 { parent, cpu } = self {
            // Fails where it is already so and may not be changed; then the limits below tell.
            let wanted = if *cpu { "+memory +cpu" } else { "+memory" };
            let _ = write(parent, "cgroup.subtree_control", wanted);
        }
        for folder in folders {
            if let Err(error) = fs::create_dir(folder)
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(error);
            }
        }
        match (self, folders) {
            (Self::V1 { .. }, [memory, cpu @ ..]) => {
                write(memory, "memory.limit_in_bytes", &limits.memory_bytes.to_string())?;
                // Only where the kernel accounts for swap.
                let _ = write(memory, "memory.memsw.limit_in_bytes", &limits.memory_bytes.to_string());
                for cpu in cpu {
                    write(cpu, "cpu.cfs_period_us", &CPU_PERIOD_MICROS.to_string())?;
                    write(cpu, "cpu.cfs_quota_us", &quota.to_string())?;
                }
            }
            (Self::V2 { cpu, .. }, [folder, ..]) => {
                write(folder, "memory.max", &limits.memory_bytes.to_string())?;
                // Half a sandbox is of no use: what meets the limit ends whole.
                write(folder, "memory.oom.group", "1")?;
                let _ = write(folder, "memory.swap.max", "0");
                if *cpu {
                    write(folder, "cpu.max", &format!("{quota} {CPU_PERIOD_MICROS}"))?;
                }
            }
            (_, []) => {}
        }
        Ok(())
    }
}

/// How many processes the kernel has killed there for want of memory.
pub(crate) fn oom_kills(folders: &[PathBuf]) -> u64 {
    let count = |file: PathBuf| {
        let text = fs::read_to_string(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse::<u64>().ok()
    };
    let files = ["memory.events", "memory.oom_control"];
    folders.iter().flat_map(|folder| files.map(|file| count(folder.join(file)))).flatten().sum()
}

/// The processes that are still there.
pub(crate) fn processes(folders: &[PathBuf]) -> Vec<i32> {
    let read = |folder: &PathBuf| fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    folders
        .iter()
        .flat_map(|folder| read(folder).lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Removes the cgroups; no process may be in them any more. One that is not there is no error.
pub(crate) fn remove(folders: &[PathBuf]) -> io::Result<()> {
    for folder in folders {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn write(folder: &Path, file: &str, text: &str) -> io::Result<()> {
    let path = folder.join(file);
    fs::write(&path, text)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn candidates(mountinfo: &str, own: &str, hands_cpu: impl Fn(&Path) -> bool) -> Vec<Cgroups> {
    let v1 = |controller: &str| {
        let root = mount_of(mountinfo, "cgroup", Some(controller))?;
        let inside = own_path(own, |names| names.split(',').any(|name| name == controller))?;
        Some(
            [root.join(inside.trim_start_matches('/')), root.clone()]
                .into_iter()
                .find(|path| path.is_dir())
                .unwrap_or(root),
        )
    };
    let mut found: Vec<_> =
        v1("memory").map(|memory| Cgroups::V1 { memory, cpu: v1("cpu") }).into_iter().collect();
    if let Some(root) = mount_of(mountinfo, "cgroup2", None)
        && let Some(inside) = own_path(own, str::is_empty)
    {
        // Our own, where no process but the starter of sandboxes is in a cgroup below it; the one above, which
        // is how systemd delegates with DelegateSubgroup=; the top, for root.
        let own = root.join(inside.trim_start_matches('/'));
        let above = own.parent().filter(|above| above.starts_with(&root)).map(Path::to_owned);
        let places = [Some(own), above, Some(root)].into_iter().flatten();
        found.extend(places.map(|parent| Cgroups::V2 { cpu: hands_cpu(&parent), parent }));
    }
    found
}

/// Fields of a line of mountinfo: proc_pid_mountinfo(5).
fn mount_of(mountinfo: &str, kind: &str, controller: Option<&str>) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = file_system.split(' ');
        let options = || line.rsplit(' ').next().unwrap_or_default().split(',');
        let fits =
            fields.next()? == kind && controller.is_none_or(|name| options().any(|option| option == name));
        fits.then(|| PathBuf::from(mount.split(' ').nth(4).unwrap_or_default()))
    })
}

fn own_path(own: &str, controllers: impl Fn(&str) -> bool) -> Option<&str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        controllers(fields.next()?).then(|| fields.next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_trees_of_v1_beside_an_empty_v2() {
        let mounts = "30 29 0:26 / /none/memory rw - cgroup cgroup rw,memory\n\
                      31 29 0:27 / /none/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      32 29 0:28 / /none/unified rw - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/job/a\n1:cpu,cpuacct:/\n0::/user/me\n";
        let found = candidates(mounts, own, |parent| parent.ends_with("me"));
        let v1 = Cgroups::V1 { memory: "/none/memory".into(), cpu: Some("/none/cpu,cpuacct".into()) };
        assert_eq!(found[0], v1);
        let parents: Vec<_> = found[1..]
            .iter()
            .map(|place| match place {
                Cgroups::V2 { parent, cpu } => (parent.to_str().unwrap(), *cpu),
                Cgroups::V1 { .. } => panic!("one v1 only"),
            })
            .collect();
        let wanted =
            [("/none/unified/user/me", true), ("/none/unified/user", false), ("/none/unified", false)];
        assert_eq!(parents, wanted);
    }
}
