//! A code-workers made for the attacks: folders, keys, servers, and a host with marks to find.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::linux::net::SocketAddrExt as _,
    os::unix::fs::PermissionsExt as _,
    os::unix::net::{SocketAddr, UnixListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use protocol::folders::Folders;
use tempfile::TempDir;

use super::process::Server;
use crate::target::{self, Backwards, Target};

/// The real key, of which nothing may ever be inside.
const REAL_KEY: &str = "sk-real-canary-f3a91c5d7b";
/// Stands in files of the host's user.
const MARK: &str = "host-canary-6e0d2b8f41";
/// Worker's tokens begin so.
const TOKEN: &str = "cwt-w-";

/// The agent: this program, as the repository holds it.
const AGENT: &str = r#"
program = "./attack"
args = ["inside", "{prompt}"]
prompt = "argument"

[env]
VIRTUAL_KEY = "{key}"

[model]
default = "anthropic/claude-sonnet-4-5"
providers = ["anthropic"]
form = "name"

[install]
hint = "it stands in the repository"
"#;

pub(super) struct Place {
    // Dropped in this order: who asks before who answers.
    _up: Server,
    environment: BTreeMap<String, String>,
    pub(super) target: Target,
    source: PathBuf,
    programs: PathBuf,
    _listeners: Vec<TcpListener>,
    _abstract: UnixListener,
    home: TempDir,
}

/// What a program said that has ended.
pub(super) struct Ran {
    pub(super) out: String,
    pub(super) err: String,
    pub(super) ok: bool,
}

impl Place {
    pub(super) fn make() -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("code-workers-attack-").tempdir()?;
        let programs = std::env::current_exe()?.parent().context("this program has no folder")?.to_owned();
        let mut environment = environment(home.path())?;
        let folders = Folders::from_env(&environment)?;
        environment
            .insert("COORDINATOR_URL".to_owned(), format!("unix://{}", folders.owner_socket().display()));
        mark_home(home.path())?;
        agent_file(home.path(), &mut environment)?;
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
        let abstract_socket = format!("code-workers-attack-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_socket)?;
        let target = Target {
            needles: [REAL_KEY, MARK, TOKEN].map(Backwards::new).into(),
            home: home.path().to_owned(),
            run: folders.run.clone(),
            loopback,
            abstract_socket,
            boot_id: Backwards::new(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim()),
        };
        let source = home.path().join("source");
        let place = Self {
            _up: up,
            environment,
            target,
            source,
            programs,
            _listeners: listeners,
            _abstract: UnixListener::bind_addr(&address)?,
            home,
        };
        place.make_source()?;
        Ok(place)
    }

    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(super) fn real_key() -> &'static str {
        REAL_KEY
    }

    /// The repository that the tasks are for: this program, and what it has to know.
    fn make_source(&self) -> anyhow::Result<()> {
        fs::create_dir(&self.source)?;
        fs::copy(std::env::current_exe()?, self.source.join("attack"))?;
        fs::set_permissions(self.source.join("attack"), fs::Permissions::from_mode(0o755))?;
        fs::write(self.source.join(target::FILE), serde_json::to_vec_pretty(&self.target)?)?;
        for arguments in [
            &["init", "-q", "-b", "main"][..],
            &["add", "-A"],
            &["-c", "user.name=attack", "-c", "user.email=attack@localhost", "commit", "-qm", "first"],
        ] {
            let mut git = Command::new("git");
            git.current_dir(&self.source).args(arguments).env_clear().envs(&self.environment);
            let ran = run(&mut git)?;
            anyhow::ensure!(ran.ok, "git {arguments:?}: {}", ran.err);
        }
        Ok(())
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
        command.args(arguments).args(["--agent", "attack"]);
        if let Some(runsc) = runsc {
            command.env("CODE_WORKERS_RUNSC", runsc);
        }
        let mut launcher = Server::start("run-worker", &mut command)?;
        launcher.wait_for("waits")?;
        Ok(launcher)
    }
}

fn environment(home: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let path = std::env::var("PATH").context("PATH is not set")?;
    let pairs = [
        ("HOME", &*home.to_string_lossy()),
        ("PATH", &path),
        ("COORDINATOR_BIND", "127.0.0.1:0"),
        ("GATEWAY_BIND", "127.0.0.1:0"),
        ("RUST_LOG", "info"),
        ("ANTHROPIC_API_KEY", REAL_KEY),
        ("OPENAI_API_KEY", REAL_KEY),
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
fn mark_home(home: &Path) -> anyhow::Result<()> {
    for file in [".ssh/id_ed25519", ".aws/credentials", ".netrc", ".config/gh/hosts.yml", "notes.txt"] {
        let path = home.join(file);
        fs::create_dir_all(path.parent().unwrap_or(home))?;
        fs::write(path, MARK)?;
    }
    Ok(())
}

fn agent_file(home: &Path, environment: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
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

fn run(command: &mut Command) -> anyhow::Result<Ran> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran { out: text(&output.stdout), err: text(&output.stderr), ok: output.status.success() })
}
