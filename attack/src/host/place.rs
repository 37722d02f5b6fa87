//! A code-workers made for the attacks: folders, keys, servers, and a host with marks to find.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::linux::net::SocketAddrExt as _,
    os::unix::{
        fs::PermissionsExt as _,
        net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use protocol::{folders::Folders, inside::COORDINATOR_DOOR};
use tempfile::TempDir;

use super::{
    process::Server, shared::OnTheHost, stand_in::StandIn, upstream, victim::Victim, weak_doors::Behind,
};
use crate::{
    inside::resources::SMALL,
    target::{Backwards, Target},
};

/// What workers' tokens begin with, backwards: a search must not find it in this program.
const TOKEN: &str = "-w-twc";

/// The agent: this program.
const AGENT: &str = r#"
program = "code-workers-attack"
args = ["inside", "{prompt}"]
prompt = "argument"

[env]
VIRTUAL_KEY = "{key}"
GATEWAY = "{gateway}"

[model]
default = "anthropic/claude-sonnet-4-5"
providers = ["anthropic"]
form = "name"

[install]
hint = "it is built with the others"
"#;

pub(super) struct Place {
    // Dropped in this order: who asks before who answers.
    _bystander: Option<Server>,
    /// The coordinator's door of the sandbox that does nothing but wait.
    pub(super) bystander_door: Option<PathBuf>,
    up: Server,
    folders: Folders,
    environment: BTreeMap<String, String>,
    pub(super) target: Target,
    source: PathBuf,
    programs: PathBuf,
    pub(super) key: String,
    pub(super) stand_in: StandIn,
    _listeners: Vec<TcpListener>,
    _abstract: UnixListener,
    _shared: Option<OnTheHost>,
    home: TempDir,
}

/// What a program said that has ended.
pub(super) struct Ran {
    pub(super) out: String,
    pub(super) err: String,
    pub(super) ok: bool,
}

impl Place {
    /// With what stands in for a fortress's launcher. Without a bystander where there are to be no sandboxes.
    pub(super) fn make(fortress: Option<&Path>, bare: bool) -> anyhow::Result<Self> {
        // Short, since a socket's path has 107 bytes.
        let home = tempfile::Builder::new().prefix("cw-attack-").tempdir()?;
        let programs = std::env::current_exe()?.parent().context("this program has no folder")?.to_owned();
        let [key, mark] = ["sk-real", "canary"].map(|name| unique().map(|id| format!("{name}-{id}")));
        let (key, mark) = (key?, mark?);
        let model = upstream::start()?;
        let mut environment = environment(home.path(), &key, &model)?;
        let folders = Folders::from_env(&environment)?;
        environment
            .insert("COORDINATOR_URL".to_owned(), format!("unix://{}", folders.owner_socket().display()));
        mark_home(home.path(), &mark)?;
        agent_file(home.path(), &folders, &mut environment)?;
        let fortress = fortress.map(|agent| format!("[fortress]\nagent = '{}'\n", agent.display()));
        fs::write(folders.config_file(), format!("{SMALL}{}", fortress.unwrap_or_default()))?;
        let mut up =
            Server::start("code-workers up", &mut command(&programs, &environment, "code-workers", &["up"]))?;
        up.wait_for("ready: ")?;
        let mut listeners = vec![TcpListener::bind("127.0.0.1:0")?];
        let mut loopback = vec![
            port(&up.wait_for("owner=")?, "owner=")?,
            port(&up.wait_for("listening on ")?, "listening on ")?,
        ];
        for listener in &mut listeners {
            loopback.push(listener.local_addr()?.port());
        }
        let owner_key = owner_key(&folders)?;
        let abstract_socket = format!("code-workers-attack-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_socket)?;
        let shared = OnTheHost::make();
        if let Err(error) = &shared {
            super::complain(&format!("the host shares nothing to be found: {error:#}"));
        }
        let shared = shared.ok();
        let target = Target {
            shared: shared.as_ref().map(OnTheHost::keys).unwrap_or_default(),
            needles: vec![Backwards::new(&key), Backwards::new(&mark), Backwards::stored(TOKEN)],
            home: home.path().to_owned(),
            run: folders.run.clone(),
            loopback,
            abstract_socket,
            boot_id: Backwards::new(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim()),
            owner_key: Backwards::new(&owner_key),
            ..Target::default()
        };
        let source = home.path().join("source");
        let stand_in = StandIn::make(&home.path().join("stand-in"), &mark, &target.boot_id.text())?;
        let mut place = Self {
            _bystander: None,
            bystander_door: None,
            up,
            folders,
            environment,
            target,
            source,
            programs,
            key,
            stand_in,
            _listeners: listeners,
            _abstract: UnixListener::bind_addr(&address)?,
            _shared: shared,
            home,
        };
        place.make_source()?;
        if !bare {
            place.stand_by()?;
        }
        let ended = place.victim("victim-ended")?;
        place.target.dead = ended.leaked();
        place.target.dead_key = Backwards::new(&ended.end(&place.folders)?);
        Ok(place)
    }

    /// A sandbox whose doors are to go on working whatever the others do.
    fn stand_by(&mut self) -> anyhow::Result<()> {
        self.register("bystander")?;
        self._bystander = Some(self.launch(&["bystander"], None)?);
        // There is no other sandbox yet.
        let sandboxes = fs::read_dir(self.folders.sandboxes())?.flatten();
        let mut doors = sandboxes.map(|folder| folder.path().join("doors").join(COORDINATOR_DOOR));
        self.bystander_door = Some(doors.find(|door| door.exists()).context("a sandbox has no door")?);
        Ok(())
    }

    /// Another's task, of a queue of its own, that runs.
    pub(super) fn victim(&self, queue: &str) -> anyhow::Result<Victim> {
        self.register(queue)?;
        self.another(queue)
    }

    /// One more of that queue.
    pub(super) fn another(&self, queue: &str) -> anyhow::Result<Victim> {
        Victim::make(&self.folders, &self.target.owner_key.text(), queue)
    }

    /// What is behind a weak door.
    pub(super) fn behind(&self, victim: &Victim) -> Behind {
        Behind {
            owner: self.folders.owner_socket(),
            worker: self.folders.worker_socket(),
            gateway: self.folders.gateway_socket(),
            admin: self.folders.gateway_admin_socket(),
            model: self.environment.get("ANTHROPIC_UPSTREAM_URL").cloned().unwrap_or_default(),
            owner_key: self.target.owner_key.text(),
            real_key: self.key.clone(),
            log: self.weak_log(),
            token: victim.token.clone(),
            lease: victim.lease.clone(),
            task: victim.neighbour.task.clone(),
        }
    }

    /// Where a key stands that is not to be there: in what the servers say and keep, with the log of a weak door or
    /// without.
    pub(super) fn key_in_logs(&mut self, weak: bool) -> Option<String> {
        let keys = [self.key.clone(), self.target.owner_key.text()];
        let holds =
            |text: &[u8]| keys.iter().any(|key| text.windows(key.len()).any(|part| part == key.as_bytes()));
        if holds(self.up.heard().join("\n").as_bytes()) {
            return Some("what the servers said".to_owned());
        }
        let mut files: Vec<_> = weak.then(|| self.weak_log()).into_iter().collect();
        let mut folders = vec![self.folders.output(), self.folders.data.join("artifacts")];
        let kept = fs::read_dir(&self.folders.data).into_iter().flatten().flatten();
        files.extend(kept.map(|entry| entry.path()).filter(|path| path.is_file()));
        while let Some(entries) = folders.pop().map(fs::read_dir) {
            for path in entries.into_iter().flatten().flatten().map(|entry| entry.path()) {
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        let found = files.into_iter().find(|path| fs::read(path).is_ok_and(|text| holds(&text)));
        found.map(|path| path.display().to_string())
    }

    /// Of the door that writes down too much.
    fn weak_log(&self) -> PathBuf {
        self.home().join("weak-door.log")
    }

    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The owner's repository.
    pub(super) fn source(&self) -> &Path {
        &self.source
    }

    /// The repository that the tasks are for.
    fn make_source(&self) -> anyhow::Result<()> {
        fs::create_dir(&self.source)?;
        fs::write(self.source.join("README"), "Nothing to see here.\n")?;
        // For a fortress, whose image has no agent of ours: the repository's own, told on standard input.
        let (agent, program) = (self.source.join(".code-workers/agent"), std::env::current_exe()?);
        fs::create_dir(self.source.join(".code-workers"))?;
        fs::write(&agent, format!("#!/bin/sh\nexec '{}' inside \"$(cat)\"\n", program.display()))?;
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
        self.git(&["init", "-q", "-b", "main"])?;
        self.git(&["add", "-A"])?;
        self.git(&["-c", "user.name=attack", "-c", "user.email=attack@localhost", "commit", "-qm", "first"])?;
        Ok(())
    }

    /// Runs git in the owner's repository; what it prints.
    pub(super) fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut git = Command::new("git");
        git.current_dir(&self.source).args(arguments).env_clear().envs(&self.environment);
        let ran = run(&mut git)?;
        anyhow::ensure!(ran.ok, "git {arguments:?}: {}", ran.err);
        Ok(ran.out)
    }

    /// What the coordinator knows of a task.
    pub(super) fn task(&self, id: &str) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.cli(&["poll", "--json", id])?.out)?)
    }

    /// What is kept as a task's log.
    pub(super) fn log_of(&self, task: &str) -> PathBuf {
        self.folders.data.join("artifacts").join(task).join("log")
    }

    /// Registers the repository under a name of its own, which is its queue's.
    pub(super) fn register(&self, queue: &str) -> anyhow::Result<()> {
        let ran = self.cli(&["repo", "add", queue, &self.source.to_string_lossy()])?;
        anyhow::ensure!(ran.ok, "{}", ran.err);
        Ok(())
    }

    /// Runs the command `code-workers` to its end.
    pub(super) fn cli(&self, arguments: &[&str]) -> anyhow::Result<Ran> {
        run(&mut command(&self.programs, &self.environment, "code-workers", arguments))
    }

    /// Starts a launcher, and waits until its sandbox does.
    pub(super) fn launch(&self, arguments: &[&str], runsc: Option<&Path>) -> anyhow::Result<Server> {
        let mut command = command(&self.programs, &self.environment, "code-workers", &["run-worker"]);
        command.args(arguments);
        if let Some(runsc) = runsc {
            command.env("CODE_WORKERS_RUNSC", runsc);
        }
        let mut launcher = Server::start("run-worker", &mut command)?;
        launcher.wait_for("waits")?;
        Ok(launcher)
    }
}

/// `up` made it, and wrote it down.
fn owner_key(folders: &Folders) -> anyhow::Result<String> {
    let text = fs::read_to_string(folders.env_file())?;
    let value = text.lines().find_map(|line| line.strip_prefix("FORTRESS_API_KEY="));
    Ok(value.context("there is no owner's key")?.trim_matches(['"', '\'']).to_owned())
}

/// What stands nowhere else on this machine.
pub(super) fn unique() -> std::io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

fn environment(home: &Path, key: &str, model: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let path = std::env::var("PATH").context("PATH is not set")?;
    let pairs = [
        ("HOME", &*home.to_string_lossy()),
        ("PATH", &path),
        ("COORDINATOR_BIND", "127.0.0.1:0"),
        ("GATEWAY_BIND", "127.0.0.1:0"),
        ("RUST_LOG", "info"),
        ("ANTHROPIC_API_KEY", key),
        ("OPENAI_API_KEY", key),
        ("ANTHROPIC_UPSTREAM_URL", model),
        ("OPENAI_UPSTREAM_URL", model),
        ("GIT_CONFIG_NOSYSTEM", "1"),
    ];
    let mut environment: BTreeMap<_, _> =
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    if let Ok(runsc) = std::env::var("CODE_WORKERS_RUNSC") {
        environment.insert("CODE_WORKERS_RUNSC".to_owned(), runsc);
    }
    Ok(environment)
}

/// Secrets as a user has them.
fn mark_home(home: &Path, mark: &str) -> anyhow::Result<()> {
    for file in [".ssh/id_ed25519", ".aws/credentials", ".netrc", ".config/gh/hosts.yml", "notes.txt"] {
        let path = home.join(file);
        fs::create_dir_all(path.parent().unwrap_or(home))?;
        fs::write(path, mark)?;
    }
    Ok(())
}

fn agent_file(
    home: &Path,
    folders: &Folders,
    environment: &mut BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let bin = folders.agents().join("attack/bin");
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(&folders.config)?;
    fs::copy(std::env::current_exe()?, bin.join("code-workers-attack"))?;
    let folder = home.join("agent-files");
    fs::create_dir(&folder)?;
    fs::write(folder.join("attack.toml"), AGENT)?;
    environment.insert("CODE_WORKERS_AGENT_FILES".to_owned(), folder.to_string_lossy().into_owned());
    Ok(())
}

/// The port of `127.0.0.1:PORT` after `word`.
fn port(line: &str, word: &str) -> anyhow::Result<u16> {
    let address = line.split(word).nth(1).and_then(|rest| rest.split_whitespace().next());
    let port = address.and_then(|address| address.rsplit(':').next()?.parse().ok());
    port.with_context(|| format!("no address in {line:?}"))
}

fn command(
    programs: &Path,
    environment: &BTreeMap<String, String>,
    program: &str,
    arguments: &[&str],
) -> Command {
    let mut command = Command::new(programs.join(program));
    command.args(arguments).env_clear().envs(environment);
    command
}

pub(super) fn run(command: &mut Command) -> anyhow::Result<Ran> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran { out: text(&output.stdout), err: text(&output.stderr), ok: output.status.success() })
}
