//! One code-workers of a scenario's own.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::{
        fs::{chown, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    agents::agents_folder,
    process::{Process, code},
};

/// Folders, key and ports of one scenario; all that it started ends when it is dropped.
pub struct Place {
    // Fields drop in this order: those who ask before those who answer.
    launchers: Vec<Process>,
    up: Option<Process>,
    model: Option<Process>,
    environment: BTreeMap<String, String>,
    user: Option<u32>,
    home: TempDir,
}

/// What a program that has ended said.
#[derive(Debug)]
pub struct Ran {
    /// The exit code, or 128 + the signal's number.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Ran {
    /// The output of a program that was to succeed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self.out
    }
}

impl Place {
    /// Empty folders, and nothing running.
    #[must_use]
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("cw-").tempdir().unwrap();
        let environment = [
            ("HOME", home.path().to_str().unwrap()),
            ("PATH", &std::env::var("PATH").unwrap()),
            ("COORDINATOR_BIND", "127.0.0.1:0"),
            ("GATEWAY_BIND", "127.0.0.1:0"),
            ("RUST_LOG", "info"),
        ];
        let mut environment: BTreeMap<_, _> =
            environment.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let owner =
            format!("unix://{}", home.path().join(".local/share/code-workers/run/owner.sock").display());
        environment.insert("COORDINATOR_URL".to_owned(), owner);
        let place = Self { launchers: Vec::new(), up: None, model: None, environment, user: None, home };
        fs::create_dir_all(place.data()).unwrap();
        if let Some(agents) = std::env::var_os("CODE_WORKERS_AGENTS") {
            symlink(agents, place.data().join("agents")).unwrap();
        }
        place
    }

    /// Lets all programs that start from now on run as a plain user; the scenario itself is root.
    pub fn as_plain_user(&mut self) {
        chown(self.home(), Some(PLAIN_USER), Some(PLAIN_USER)).unwrap();
        for folder in [".local", ".local/share", ".local/share/code-workers"] {
            chown(self.home().join(folder), Some(PLAIN_USER), Some(PLAIN_USER)).unwrap();
        }
        self.user = Some(PLAIN_USER);
    }

    /// A place that is up, with a model that plays these turns (TOML, as recorded-model reads it).
    #[must_use]
    pub fn with_model(turns: &str) -> Self {
        let mut place = Self::new();
        place.model(turns);
        place.up();
        place
    }

    /// The same with the real agent CLIs; `None`, and said, where they are not installed.
    #[must_use]
    pub fn with_agents(turns: &str) -> Option<Self> {
        agents_folder().map(|_| Self::with_model(turns))
    }

    /// The scenario's home folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.home().join(".local/share/code-workers")
    }

    /// The run folder.
    #[must_use]
    pub fn run_folder(&self) -> PathBuf {
        self.data().join("run")
    }

    /// Sets a variable for all programs that start from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// Writes the configuration file.
    pub fn configure(&self, toml: &str) {
        let folder = self.home().join(".config/code-workers");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.toml"), toml).unwrap();
    }

    /// Writes an agent file of the user's own.
    pub fn agent_file(&mut self, name: &str, toml: &str) {
        let folder = self.home().join("agent-files");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}.toml")), toml).unwrap();
        self.set("CODE_WORKERS_AGENT_FILES", folder.to_str().unwrap());
    }

    /// Starts the model.
    pub fn model(&mut self, turns: &str) {
        let file = self.home().join("turns.toml");
        fs::write(&file, turns).unwrap();
        let mut command = self.command("code-workers-recorded-model");
        command.args(["--listen", "127.0.0.1:0", "--turns"]).arg(file);
        command.arg("--log").arg(self.home().join("model.log"));
        let mut model = Process::start("recorded-model", &mut command);
        let line = model.wait_for("listening on ");
        let url = format!("http://{}", line.trim_start_matches("listening on ").trim());
        self.set("ANTHROPIC_UPSTREAM_URL", &url);
        self.set("OPENAI_UPSTREAM_URL", &url);
        self.set("ANTHROPIC_API_KEY", REAL_KEY);
        self.set("OPENAI_API_KEY", REAL_KEY);
        self.model = Some(model);
    }

    /// What the model was asked: one JSON value a request.
    #[must_use]
    pub fn model_log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.home().join("model.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts coordinator and gateway.
    pub fn up(&mut self) {
        let mut up = Process::start("up", self.command("code-workers").arg("up"));
        up.wait_for("ready");
        self.up = Some(up);
    }

    /// Ends coordinator and gateway.
    pub fn down(&mut self) {
        self.up = None;
    }

    /// The process that holds coordinator and gateway.
    pub fn up_process(&mut self) -> &mut Process {
        self.up.as_mut().unwrap()
    }

    /// Makes a git repository of these files, and registers it.
    pub fn repo(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.home().join("repos").join(name);
        fs::create_dir_all(&folder).unwrap();
        for (path, text) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            if text.starts_with("#!") {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        self.git(&folder, &["init", "-q", "-b", "main"]);
        self.git(&folder, &["add", "-A"]);
        self.git(&folder, &["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "first"]);
        self.cli(&["repo", "add", name, folder.to_str().unwrap()]).ok();
        folder
    }

    /// The sample repository of the quickstart, registered as `sample`.
    pub fn sample(&self) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recorded-model/sample/repository");
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        self.repo("sample", &[("slug.sh", &read("slug.sh")), ("test.sh", &read("test.sh"))])
    }

    /// Runs git in a folder; it must succeed.
    pub fn git(&self, folder: &Path, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(folder).args(args).env("HOME", self.home()).env("GIT_CONFIG_NOSYSTEM", "1");
        run(&mut command, "").ok()
    }

    /// Starts a launcher.
    pub fn launch(&mut self, args: &[&str]) -> &mut Process {
        let launcher = Process::start("launcher", self.command("code-workers").arg("run-worker").args(args));
        self.launchers.push(launcher);
        self.launchers.last_mut().unwrap()
    }

    /// The launchers, in the order of their start.
    pub fn launchers(&mut self) -> &mut Vec<Process> {
        &mut self.launchers
    }

    /// Runs the command `code-workers`.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Ran {
        run(self.command("code-workers").args(args), "")
    }

    /// Starts the command `code-workers`.
    #[must_use]
    pub fn start_cli(&self, args: &[&str]) -> Process {
        Process::start("cli", self.command("code-workers").args(args))
    }

    /// Runs a script of the top folder with this standard input.
    #[must_use]
    pub fn script(&self, name: &str, args: &[&str], stdin: &str) -> Ran {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(name);
        run(self.with_environment(&mut Command::new(path)).args(args), stdin)
    }

    /// A task, as the API shows it.
    #[must_use]
    pub fn task(&self, id: &str) -> Value {
        serde_json::from_str(&self.cli(&["poll", "--json", id]).out).unwrap()
    }

    /// One of our programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        programs().join(name)
    }

    /// A command for one of our programs.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.program(program));
        self.with_environment(&mut command);
        command
    }

    fn with_environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.env_clear().envs(&self.environment).current_dir(self.home())
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

/// `nobody`: has no home, no group and nobody's files.
const PLAIN_USER: u32 = 65_534;

/// The real key that no sandbox may ever see.
pub const REAL_KEY: &str = "sk-real-0123456789-never-inside";

/// The folder of the programs that were built with this one: its own, or for a test the one above.
pub(crate) fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().skip(1).take(2).find(|folder| folder.join("code-workers").exists());
    found.expect("cargo build --workspace comes before the scenarios").to_owned()
}

pub(crate) fn run(command: &mut Command, stdin: &str) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_owned();
    let writer = std::thread::spawn(move || drop(pipe.write_all(stdin.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: code(output.status), out: text(output.stdout), err: text(output.stderr) }
}
