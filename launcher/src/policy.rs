//! A launcher's settings as the policy of one sandbox.

use std::path::{Path, PathBuf};

use anyhow::Context;
use protocol::WorkerId;
use protocol::image::Image;
use protocol::inside::{
    AGENT_FILES, AGENT_PROGRAMS, AGENT_UID, BIN, COORDINATOR_DOOR, COORDINATOR_URL, DOORS, GATEWAY_DOOR,
    HOME, MIRROR, OUTBOX, RELAY_UID, WORK, WORKER_CONFIG,
};
use sandbox::{
    HostPath, HostToolchain, ImageRoot, InsidePath, Joined, Limits, Mount, Policy, Root, Runtime, SandboxId,
    Shim, User, Work,
};

use crate::folder::SandboxFolder;
use crate::settings::{Config, Kind};

/// Open files of one process; build tools and language servers keep many.
const OPEN_FILES: u64 = 16_384;
/// Bytes of a log beside its output: the line about what was dropped.
const LOG_END: u64 = 1 << 10;
/// Where programs are looked for inside, after the toolchains of the configuration.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the sandbox of `worker` may see and use.
pub(crate) fn policy(
    config: &Config,
    runtime: &Runtime,
    worker: &WorkerId,
    folder: &SandboxFolder,
) -> anyhow::Result<Policy> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let image = image(config)?;
    Ok(Policy {
        id: SandboxId::try_from(worker.to_string())?,
        root: match (runtime, &image) {
            (Runtime::Docker(_) | Runtime::Fortress(_) | Runtime::None(_), _) => Root::OfRuntime,
            (Runtime::Gvisor(_), Some(image)) => Root::Image(image_root(config, image)?),
            (Runtime::Gvisor(_), None) => Root::HostToolchain(HostToolchain::of_this_host()?),
        },
        read_only: if runtime.has_mounts() { read_only(config, folder)? } else { Vec::new() },
        shared: vec![mount(&folder.doors(), DOORS)?, mount(folder.outbox().folder(), OUTBOX)?],
        work: Work {
            inside: InsidePath::try_from(WORK)?,
            bytes: config.work_bytes,
            owner: AGENT_UID,
            store: HostPath::try_from(work_stores(config))?,
        },
        tmp_bytes: config.tmp_bytes,
        limits: Limits {
            memory_bytes: whole_sandbox(config.memory_bytes),
            cpu_millis: u32::try_from(cpus)?.saturating_mul(1000),
            processes: config.processes,
            open_files: OPEN_FILES,
            // The worker has the same limit, and writes the log.
            file_bytes: config.work_bytes.max(config.output_bytes.saturating_add(LOG_END)),
        },
        hostname: "sandbox".to_owned(),
        users: vec![user("agent", AGENT_UID)?, user("relay", RELAY_UID)?],
        loopback_names: ["skia", "authproxy"].map(str::to_owned).into(),
        program: InsidePath::try_from(format!("{BIN}/code-workers-worker").as_str())?,
        arguments: vec!["init".to_owned()],
        environment: environment(config, runtime, image.and_then(|image| image.path)),
    })
}

/// What a sandbox may use whose programs may use so much: gVisor itself takes some, for the files in `/work` above
/// all, and the worker must end an agent that uses up its own before the kernel ends the sandbox.
fn whole_sandbox(programs: u64) -> u64 {
    programs.saturating_add(programs / 4).saturating_add(256 << 20)
}

/// The doors as containers on a network of Docker's.
pub(crate) fn joined(config: &Config, network: &str) -> anyhow::Result<Joined> {
    let shim = |alias: &str, port, door: &str| Shim { alias: alias.to_owned(), port, door: door.to_owned() };
    Ok(Joined {
        name: network.to_owned(),
        relay: HostPath::try_from(config.relay.canonicalize()?)?,
        doors: InsidePath::try_from(DOORS)?,
        shims: vec![shim("skia", 7222, COORDINATOR_DOOR), shim("authproxy", 4000, GATEWAY_DOOR)],
    })
}

/// On a disk, which the run folder often is not.
pub(crate) fn work_stores(config: &Config) -> PathBuf {
    config.home.folders.data.join("sandboxes")
}

fn read_only(config: &Config, folder: &SandboxFolder) -> anyhow::Result<Vec<Mount>> {
    let folders = &config.home.folders;
    let config_inside = Path::new(WORKER_CONFIG).parent().unwrap_or(Path::new("/"));
    let mut mounts = vec![mount(&folder.config(), &config_inside.to_string_lossy())?];
    for program in [&config.worker, &config.relay] {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        mounts.push(mount(program, &format!("{BIN}/{name}"))?);
    }
    if let Some(files) = &config.agent_files {
        mounts.push(mount(files, AGENT_FILES)?);
    }
    if folders.agents().is_dir() {
        mounts.push(mount(&folders.agents(), AGENT_PROGRAMS)?);
    }
    let mirror = mount(&folders.mirror(&config.queue), MIRROR);
    mounts.push(mirror.context("the repository has no mirror here; `code-workers repo add` makes it")?);
    for toolchain in &config.toolchains {
        mounts.push(mount(toolchain, &toolchain.to_string_lossy())?);
    }
    for cache in &config.caches {
        mounts.push(mount(&cache.host, &cache.inside.to_string_lossy())?);
    }
    Ok(mounts)
}

/// Links on the way are followed here, on the host.
fn mount(host: &Path, inside: &str) -> anyhow::Result<Mount> {
    let host = host.canonicalize().map_err(|error| anyhow::anyhow!("{}: {error}", host.display()))?;
    Ok(Mount { host: HostPath::try_from(host)?, inside: InsidePath::try_from(inside)? })
}

fn user(name: &str, id: u32) -> anyhow::Result<User> {
    Ok(User { name: name.to_owned(), id, home: InsidePath::try_from(HOME)? })
}

/// What the image's name stands for now.
fn image(config: &Config) -> anyhow::Result<Option<Image>> {
    let Kind::Gvisor { image: Some(name), .. } = &config.kind else { return Ok(None) };
    let file = config.home.folders.image(name);
    let text = std::fs::read(&file).with_context(|| format!("the image {name}: {}", file.display()))?;
    let image = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", file.display()))?;
    Ok(Some(image))
}

fn image_root(config: &Config, image: &Image) -> anyhow::Result<ImageRoot> {
    let folder = config.home.folders.image_root(&image.digest);
    ImageRoot::of(&folder).with_context(|| format!("the image in {}", folder.display()))
}

fn environment(config: &Config, runtime: &Runtime, of_image: Option<String>) -> Vec<(String, String)> {
    let mut all = vec![("LANG".to_owned(), "C.UTF-8".to_owned())];
    // An image of Docker's says itself where its programs are; the worker and what it starts have that PATH.
    if !matches!(runtime, Runtime::Docker(_)) || !config.toolchains.is_empty() {
        all.push(("PATH".to_owned(), path(config, runtime, of_image)));
    }
    if let Runtime::Docker(docker) = runtime
        && docker.is_on_a_network()
    {
        all.push(("COORDINATOR_URL".to_owned(), COORDINATOR_URL.to_owned()));
    }
    all
}

fn path(config: &Config, runtime: &Runtime, of_image: Option<String>) -> String {
    let bin = |folder: &PathBuf| if folder.ends_with("bin") { folder.clone() } else { folder.join("bin") };
    let bins = config.toolchains.iter().map(bin).filter(|bin| bin.is_dir());
    let own = match runtime {
        // Nothing is taken from its user there.
        Runtime::None(_) => std::env::var("PATH").ok(),
        _ => of_image,
    };
    let own = own.unwrap_or_else(|| PATH.to_owned());
    bins.map(|bin| bin.to_string_lossy().into_owned()).chain([own]).collect::<Vec<_>>().join(":")
}
