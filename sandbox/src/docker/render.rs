//! Policy and Docker joined into an argument vector. Pure.

use std::path::Path;

use super::Docker;
use crate::policy::{self, Policy, SandboxId};

/// Threads that runsc itself may have on the host beside those of the programs inside: too few stop all of it.
const OWN_THREADS: u64 = 1024;
/// Its threads on the host for one inside.
const THREADS_EACH: u64 = 4;

/// The container's name.
pub(super) fn name(id: &SandboxId) -> String {
    format!("code-workers-{id}")
}

/// What follows `docker` to start the sandbox in the background.
#[must_use]
pub fn run_arguments(policy: &Policy, docker: &Docker) -> Vec<String> {
    let mut line: Vec<String> = ["run", "--detach", "--pull", "never", "--name"].map(str::to_owned).into();
    line.push(name(&policy.id));
    line.extend(["--label".to_owned(), format!("code-workers.sandbox={}", policy.id)]);
    line.extend(["--runtime".to_owned(), docker.runtime.clone()]);
    line.extend(["--network", "none", "--read-only", "--user", "0:0", "--workdir", "/"].map(str::to_owned));
    line.extend(["--hostname".to_owned(), policy.hostname.clone()]);
    line.extend(privileges());
    line.extend(limits(policy));
    line.extend(names(policy));
    // No more of what is printed than is of use, on the daemon's disk.
    let log = [
        "--log-driver",
        "local",
        "--log-opt",
        "max-size=1m",
        "--log-opt",
        "max-file=1",
        "--log-opt",
        "compress=false",
    ];
    line.extend(log.map(str::to_owned));
    line.extend(mounts(policy));
    for (name, value) in &policy.environment {
        line.extend(["--env".to_owned(), format!("{name}={value}")]);
    }
    line.extend(["--entrypoint".to_owned(), text(policy.program.as_path()), docker.image.clone()]);
    line.extend(policy.arguments.iter().cloned());
    line
}

/// As in gVisor without Docker: what PID 1 needs to hand work to other users.
fn privileges() -> Vec<String> {
    let mut all: Vec<_> = ["--cap-drop", "ALL"].map(str::to_owned).into();
    for capability in ["SETUID", "SETGID", "KILL", "CHOWN"] {
        all.extend(["--cap-add", capability].map(str::to_owned));
    }
    all.extend(["--security-opt", "no-new-privileges"].map(str::to_owned));
    all
}

fn limits(policy: &Policy) -> Vec<String> {
    let limits = &policy.limits;
    let ulimits = [
        ("nproc", limits.processes),
        ("nofile", limits.open_files),
        ("fsize", limits.file_bytes),
        ("core", 0),
    ];
    let mut all: Vec<_> = ulimits
        .into_iter()
        .flat_map(|(name, most)| ["--ulimit".to_owned(), format!("{name}={most}:{most}")])
        .collect();
    let pids = limits.processes.saturating_mul(THREADS_EACH).saturating_add(OWN_THREADS);
    // The same for memory and swap together: none is swapped.
    let memory = limits.memory_bytes;
    let cpus = format!("{}.{:03}", limits.cpu_millis / 1000, limits.cpu_millis % 1000);
    for (name, most) in [
        ("--pids-limit", pids.to_string()),
        ("--memory", memory.to_string()),
        ("--memory-swap", memory.to_string()),
        ("--cpus", cpus),
    ] {
        all.extend([name.to_owned(), most]);
    }
    all
}

/// Names that are answered inside, and a name server that nobody is: the host's own tells of its network.
fn names(policy: &Policy) -> Vec<String> {
    let mut all: Vec<_> = policy
        .loopback_names
        .iter()
        .flat_map(|name| ["--add-host".to_owned(), format!("{name}:127.0.0.1")])
        .collect();
    let resolver = [
        "--dns",
        "127.0.0.1",
        "--dns-search",
        ".",
        "--dns-option",
        "timeout:1",
        "--dns-option",
        "attempts:1",
    ];
    all.extend(resolver.map(str::to_owned));
    all
}

fn mounts(policy: &Policy) -> Vec<String> {
    let bind = |mount: &policy::Mount, more: &[&str]| {
        let fields = [
            "type=bind".to_owned(),
            format!("source={}", text(mount.host.as_path())),
            format!("target={}", text(mount.inside.as_path())),
        ];
        let fields = fields.iter().map(String::as_str).chain(more.iter().copied()).map(field);
        ["--mount".to_owned(), fields.collect::<Vec<_>>().join(",")]
    };
    let tmpfs = |at: &Path, options: String| {
        // Docker's own default is noexec.
        ["--tmpfs".to_owned(), format!("{}:rw,exec,nosuid,nodev,{options}", text(at))]
    };
    let (work, owner) = (&policy.work, policy.work.owner);
    let mut all: Vec<_> = tmpfs(Path::new("/tmp"), format!("mode=1777,size={}", policy.tmp_bytes)).into();
    all.extend(tmpfs(
        work.inside.as_path(),
        format!("mode=0755,uid={owner},gid={owner},size={}", work.bytes),
    ));
    all.extend(policy.read_only_mounts().flat_map(|mount| bind(mount, &["readonly"])));
    all.extend(policy.shared.iter().flat_map(|mount| bind(mount, &[])));
    all
}

/// A field of a line of CSV, which is how Docker reads a mount.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Paths of a policy are UTF-8 by their types.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
