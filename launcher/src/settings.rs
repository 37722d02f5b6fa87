//! What the launcher and its keepers are told, parsed whole before anything starts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::client::{Endpoint, OwnerClient};
use protocol::folders::{Folders, beside};
use protocol::ids::{AgentName, ImageName, QueueName};
use protocol::limits::LOG_BYTES;
use protocol::secret::Secret;
use protocol::settings::{Faults, Key, KeySource, Settings, Sources};

use crate::caches::{self, Cache};

const MIB: u64 = 1 << 20;
/// MiB, below what an artifact may have.
const MOST_OUTPUT: u64 = 250;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) queue: QueueName,
    pub(crate) parallel: usize,
    pub(crate) once: bool,
    pub(crate) agent: Option<AgentName>,
    pub(crate) sandbox: Option<KindName>,
    pub(crate) image: Option<String>,
    pub(crate) network: Option<String>,
}

/// How sandboxes are stood up, as it is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KindName {
    /// gVisor's runsc, run directly
    Gvisor,
    /// Docker with runsc as its runtime
    Docker,
    /// An AI Fortress, whose own launcher starts the container
    Fortress,
    /// No sandbox at all: the agent is you, on this machine
    None,
}

impl std::str::FromStr for KindName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        <Self as clap::ValueEnum>::from_str(name, false)
            .map_err(|_| "is none of gvisor, docker, fortress, none".to_owned())
    }
}

/// How sandboxes are stood up, and what that needs to know.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Without an image, the host's toolchain.
    Gvisor {
        runsc: PathBuf,
        image: Option<ImageName>,
    },
    Docker {
        runtime: String,
        image: String,
        network: Option<String>,
    },
    Fortress {
        agent: PathBuf,
        image: String,
    },
    None,
}

/// What every process of the launcher needs.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) folders: Folders,
    /// The owner's side of the coordinator.
    pub(crate) coordinator: Endpoint,
    pub(crate) key: Secret,
    /// Who makes the keys of agents, and so where they are led.
    pub(crate) keys: KeySource,
}

impl Home {
    pub(crate) fn owner(&self) -> Result<OwnerClient, protocol::client::ClientError> {
        OwnerClient::new(self.coordinator.clone(), self.key.clone())
    }
}

/// What sandboxes are made of.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) home: Home,
    /// The configuration file that keepers are to read too.
    pub(crate) file: Option<PathBuf>,
    pub(crate) queue: QueueName,
    pub(crate) parallel: usize,
    pub(crate) once: bool,
    pub(crate) agent: AgentName,
    /// How long tasks may run on when it was told to stop.
    pub(crate) drain: Duration,
    pub(crate) kind: Kind,
    /// `code-workers-worker` and `code-workers-relay`.
    pub(crate) worker: PathBuf,
    pub(crate) relay: PathBuf,
    pub(crate) agent_files: Option<PathBuf>,
    pub(crate) toolchains: Vec<PathBuf>,
    pub(crate) caches: Vec<Cache>,
    pub(crate) memory_bytes: u64,
    pub(crate) work_bytes: u64,
    pub(crate) work_files: u64,
    pub(crate) output_bytes: u64,
    pub(crate) tmp_bytes: u64,
    pub(crate) processes: u64,
    /// The names of the variables that hold real keys.
    pub(crate) real_keys: Vec<String>,
}

/// Reads what a keeper needs.
pub(crate) fn home(file: Option<&Path>) -> Result<Home, Faults> {
    let (sources, folders) = Sources::read(file)?;
    let mut settings = Settings::new(sources);
    let home = read_home(&mut settings, folders);
    settings.finish(home)
}

/// Reads what the launcher needs.
pub(crate) fn config(wish: Wish, file: Option<PathBuf>) -> Result<Config, Faults> {
    let (sources, folders) = Sources::read(file.as_deref())?;
    let mut settings = Settings::new(sources);
    let default_agent: AgentName = settings.or(&Key::TASK_AGENT, built_in_agent()?);
    let bytes = |settings: &mut Settings, key, mib| at_least_one(settings, key, mib) * MIB;
    let caches = caches::read(&mut settings, &folders, &wish.queue);
    let config = Config {
        home: read_home(&mut settings, folders),
        caches,
        file,
        queue: wish.queue,
        parallel: wish.parallel,
        once: wish.once,
        agent: wish.agent.unwrap_or(default_agent),
        drain: Duration::from_secs(settings.or(&Key::DRAIN, 600)),
        kind: kind(&mut settings, wish.sandbox, wish.image, wish.network, wish.once),
        worker: sibling(&mut settings, "code-workers-worker"),
        relay: sibling(&mut settings, "code-workers-relay"),
        agent_files: settings.optional(&Key::AGENT_FILES),
        toolchains: settings.list(&Key::SANDBOX_TOOLCHAINS).into_iter().map(PathBuf::from).collect(),
        memory_bytes: bytes(&mut settings, &Key::SANDBOX_MEMORY, 4096),
        work_bytes: bytes(&mut settings, &Key::SANDBOX_WORK, 10_240),
        work_files: at_least_one(&mut settings, &Key::SANDBOX_FILES, 1_000_000),
        tmp_bytes: bytes(&mut settings, &Key::SANDBOX_TMP, 1024),
        output_bytes: output_bytes(&mut settings),
        processes: at_least_one(&mut settings, &Key::SANDBOX_PROCESSES, 1024),
        real_keys: kept_back(&mut settings),
    };
    if config.home.keys == KeySource::Env && !matches!(config.kind, Kind::Fortress { .. }) {
        settings.fault(
            "key_source = \"env\" needs --sandbox fortress, whose launcher puts a key into the container; other \
             sandboxes get theirs from the coordinator",
        );
    }
    if let Kind::Gvisor { image: Some(image), .. } = &config.kind
        && !config.home.folders.image(image).is_file()
    {
        settings.fault(format!(
            "no image {image} is here: take it in with `code-workers image build {image}` or `image import {image} TAR`"
        ));
    }
    for path in config.toolchains.iter().chain(&config.agent_files) {
        if !path.is_absolute() || !path.is_dir() {
            settings.fault(format!("{}: no such folder (an absolute path is wanted)", path.display()));
        }
    }
    settings.finish(config)
}

fn kind(
    settings: &mut Settings,
    wished: Option<KindName>,
    image: Option<String>,
    network: Option<String>,
    once: bool,
) -> Kind {
    let configured = settings.or(&Key::SANDBOX_KIND, KindName::Gvisor);
    let runsc = settings.or(&Key::RUNSC, PathBuf::from("runsc"));
    let runtime = settings.or(&Key::DOCKER_RUNTIME, "runsc".to_owned());
    let image = image.or_else(|| settings.optional(&Key::SANDBOX_IMAGE));
    let agent = settings.optional(&Key::FORTRESS_AGENT);
    let network = network.or_else(|| settings.optional(&Key::DOCKER_NETWORK));
    match wished.unwrap_or(configured) {
        KindName::Gvisor => {
            let parsed = image.map(|name| name.parse::<ImageName>()).transpose();
            let image = parsed.unwrap_or_else(|error| {
                settings.fault(error.to_string());
                None
            });
            Kind::Gvisor { runsc, image }
        }
        KindName::Docker => Kind::Docker { runtime, image: wanted(settings, image, "docker"), network },
        KindName::Fortress => {
            if once {
                let why =
                    "--once cannot be had with --sandbox fortress: its workers take task after task, unseen";
                settings.fault(why.to_owned());
            }
            let home = settings.variable("HOME").unwrap_or_default();
            let agent = agent.unwrap_or_else(|| PathBuf::from(home).join("bin/agent"));
            Kind::Fortress { agent, image: wanted(settings, image, "fortress") }
        }
        KindName::None => Kind::None,
    }
}

fn wanted(settings: &mut Settings, image: Option<String>, kind: &str) -> String {
    image.unwrap_or_else(|| {
        settings.fault(format!("--sandbox {kind} needs an image: --image NAME (or sandbox.image)"));
        String::new()
    })
}

fn read_home(settings: &mut Settings, folders: Folders) -> Home {
    let key = settings.optional(&Key::OWNER_KEY).unwrap_or_else(|| {
        settings.fault(format!(
            "FORTRESS_API_KEY is not set; `code-workers up` makes one and writes it to {}",
            folders.env_file().display()
        ));
        Secret::new("")
    });
    // The socket is this user's own, whatever port the coordinator listens on.
    let coordinator = settings.or(&Key::COORDINATOR_URL, Endpoint::Unix(folders.owner_socket()));
    Home { folders, coordinator, key, keys: settings.key_source() }
}

/// The variables that hold what is for the gateway alone, or for the coordinator.
fn kept_back(settings: &mut Settings) -> Vec<String> {
    let password = Key::BIFROST_PASSWORD.env.unwrap_or_default();
    settings.real_key_variables().into_iter().chain([password.to_owned()]).collect()
}

fn built_in_agent() -> Result<AgentName, Faults> {
    "opencode".parse().map_err(|error: protocol::ids::BadName| {
        let mut faults = Faults::default();
        faults.add(error.to_string());
        faults
    })
}

fn at_least_one(settings: &mut Settings, key: &Key, default: u64) -> u64 {
    let number = settings.or(key, default);
    if number == 0 {
        settings.fault(format!("{} must be at least 1", key.file.unwrap_or_default()));
    }
    number
}

/// What is kept has to go to the coordinator as one artifact, with a line about what was dropped.
fn output_bytes(settings: &mut Settings) -> u64 {
    let mib = at_least_one(settings, &Key::SANDBOX_OUTPUT, LOG_BYTES / MIB);
    if mib > MOST_OUTPUT {
        settings.fault(format!("sandbox.output_mb must be at most {MOST_OUTPUT}: a log is one artifact"));
    }
    mib.saturating_mul(MIB)
}

/// A program of ours: beside this one, else on PATH.
fn sibling(settings: &mut Settings, program: &str) -> PathBuf {
    let here = std::env::current_exe().ok().and_then(|me| beside(&me, program));
    let path = settings.variable("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(program));
    here.into_iter().chain(on_path).find(|path| path.is_file()).unwrap_or_else(|| {
        settings.fault(format!("{program} is neither beside this program nor on PATH"));
        PathBuf::from(program)
    })
}
