//! Policy and Docker joined into an argument vector. Pure.

use std::path::Path;

use super::{Docker, Joined, Network, Shim};
use crate::policy::{self, Policy, SandboxId};

/// Threads that runsc itself may have on the host beside those of the programs inside: too few stop all of it.
const OWN_THREADS: u64 = 1024;
/// Its threads on the host for one inside.
const THREADS_EACH: u64 = 4;

/// The container's name.
pub(super) fn name(id: &SandboxId) -> String {
    format!("code-workers-{id}")
}

/// The name of one of a sandbox's shims.
pub(super) fn shim_name(id: &SandboxId, shim: &Shim) -> String {
    format!("{}-{}", name(id), shim.alias)
}

/// Aliases of shims, each with its address: gVisor's network cannot ask Docker's name server.
pub type Addresses = Vec<(String, String)>;

/// What follows `docker` to start a shim in the background.
#[must_use]
pub fn shim_arguments(policy: &Policy, docker: &Docker, joined: &Joined, shim: &Shim) -> Vec<String> {
    const RELAY: &str = "/run/code-workers-relay";
    let doors = policy.shared.iter().filter(|mount| mount.inside == joined.doors);
    let mut line = started(&shim_name(&policy.id, shim), &policy.id, docker);
    line.extend(["--label".to_owned(), format!("ai-fortress.shim.alias={}", shim.alias)]);
    line.extend(["--network", &joined.name, "--network-alias", &shim.alias].map(str::to_owned));
    line.extend(["--read-only", "--user", "0:0", "--workdir", "/", "--cap-drop", "ALL"].map(str::to_owned));
    line.extend(
        ["--security-opt", "no-new-privileges", "--memory", "256m", "--memory-swap", "256m"]
            .map(str::to_owned),
    );
    line.extend(LOG.map(str::to_owned));
    line.extend(bind(joined.relay.as_path(), Path::new(RELAY), &["readonly"]));
    line.extend(doors.flat_map(|mount| bind(mount.host.as_path(), mount.inside.as_path(), &[])));
    line.extend(["--entrypoint".to_owned(), RELAY.to_owned(), docker.image.clone()]);
    let door = joined.doors.as_path().join(&shim.door);
    line.extend(["--own-network".to_owned(), "--listen".to_owned(), format!("tcp://0.0.0.0:{}", shim.port)]);
    line.extend(["--dial".to_owned(), format!("unix://{}", text(&door))]);
    line
}

/// No more of what is printed than is of use, on the daemon's disk.
const LOG: [&str; 8] = [
    "--log-driver",
    "local",
    "--log-opt",
    "max-size=1m",
    "--log-opt",
    "max-file=1",
    "--log-opt",
    "compress=false",
];

fn started(name: &str, id: &SandboxId, docker: &Docker) -> Vec<String> {
    let mut line: Vec<String> =
        ["run", "--detach", "--pull", "never", "--name", name].map(str::to_owned).into();
    line.extend(["--label".to_owned(), format!("code-workers.sandbox={id}")]);
    line.extend(["--runtime".to_owned(), docker.runtime.clone()]);
    line
}

/// What follows `docker` to start the sandbox in the background. `shims` is empty where it has no network.
#[must_use]
pub fn run_arguments(policy: &Policy, docker: &Docker, shims: &Addresses) -> Vec<String> {
    let mut line = started(&name(&policy.id), &policy.id, docker);
    let network = match &docker.network {
        Network::None => "none",
        Network::Joined(joined) => &joined.name,
    };
    line.extend(["--network", network, "--read-only", "--user", "0:0", "--workdir", "/"].map(str::to_owned));
    line.extend(["--hostname".to_owned(), policy.hostname.clone()]);
    line.extend(privileges());
    line.extend(limits(policy));
    line.extend(names(policy, shims));
    line.extend(LOG.map(str::to_owned));
    line.extend(mounts(policy, docker));
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
fn names(policy: &Policy, shims: &Addresses) -> Vec<String> {
    let address = |name: &str| {
        let shim = shims.iter().find(|(alias, _)| alias == name);
        shim.map_or("127.0.0.1", |(_, address)| address).to_owned()
    };
    let names = policy.loopback_names.iter();
    let mut all: Vec<_> =
        names.flat_map(|name| ["--add-host".to_owned(), format!("{name}:{}", address(name))]).collect();
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

fn bind(host: &Path, inside: &Path, more: &[&str]) -> [String; 2] {
    let fields =
        ["type=bind".to_owned(), format!("source={}", text(host)), format!("target={}", text(inside))];
    let fields = fields.iter().map(String::as_str).chain(more.iter().copied()).map(field);
    ["--mount".to_owned(), fields.collect::<Vec<_>>().join(",")]
}

fn mounts(policy: &Policy, docker: &Docker) -> Vec<String> {
    let bind =
        |mount: &policy::Mount, more: &[&str]| bind(mount.host.as_path(), mount.inside.as_path(), more);
    let is_the_shims = |mount: &policy::Mount| match &docker.network {
        Network::None => false,
        Network::Joined(joined) => mount.inside == joined.doors,
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
    all.extend(policy.shared.iter().filter(|mount| !is_the_shims(mount)).flat_map(|mount| bind(mount, &[])));
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
