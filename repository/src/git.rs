//! Running git: with an environment and configuration of our choosing, and with an end to what it may print.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use crate::environment::{self, Environment};
use crate::failure;
use crate::limits::{BIG_FILE_THRESHOLD, MAX_GIT_ERROR_BYTES, MAX_GIT_OUTPUT_BYTES};
use crate::source::Source;
use crate::{Code, RepositoryError};

/// Said to every git: no hook, no helper daemon, no housekeeping behind our back, no submodule.
const CONFIG: [&str; 9] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
];

/// Said where the data is hostile: check what is fetched, and bound what is held in memory.
const HOSTILE_CONFIG: [&str; 2] = ["fetch.fsckObjects=true", "transfer.fsckObjects=true"];

/// A git with the settings of one trust level.
pub(crate) struct Git {
    environment: Environment,
    config: Vec<String>,
}

impl Git {
    /// For mirrors and for what came back from a sandbox; see [`environment::isolated`].
    pub(crate) fn isolated(scratch: &Path) -> Self {
        let mut git = Self::with(environment::isolated(scratch));
        git.config.extend(HOSTILE_CONFIG.map(str::to_owned));
        git.config.push(format!("core.bigFileThreshold={BIG_FILE_THRESHOLD}"));
        git
    }

    /// For reading `source`; see [`environment::of_local_source`] and [`environment::of_remote_source`]. What the
    /// owner's own history holds is not ours to refuse, so there is no fsck here.
    pub(crate) fn for_source(source: &Source, scratch: &Path) -> Result<Self, RepositoryError> {
        match source {
            Source::Local(_) => environment::of_local_source(scratch),
            Source::Remote(remote) => environment::of_remote_source(remote, scratch),
        }
        .map(Self::with)
        .map_err(|error| RepositoryError::io("cannot write git's configuration", &error))
    }

    /// For the user's own repository; see [`environment::of_target`].
    pub(crate) fn for_target() -> Self {
        let mut git = Self::with(environment::of_target());
        git.config.extend(HOSTILE_CONFIG.map(str::to_owned));
        git
    }

    fn with(environment: Environment) -> Self {
        Self { environment, config: CONFIG.map(str::to_owned).into() }
    }

    /// A git command in no repository.
    pub(crate) fn command(&self) -> Invocation {
        let mut command = Command::new("git");
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for setting in &self.config {
            command.arg("-c").arg(setting);
        }
        Invocation { command, input: None }
    }

    /// A git command in the repository whose git folder is `git_dir`.
    pub(crate) fn in_repository(&self, git_dir: &Path) -> Invocation {
        self.command().arg("--git-dir").arg(git_dir)
    }

    /// A git command that looks for its repository from `folder` upwards.
    pub(crate) fn in_folder(&self, folder: &Path) -> Invocation {
        self.command().arg("-C").arg(folder)
    }
}

/// One git that is about to run.
pub(crate) struct Invocation {
    command: Command,
    input: Option<Vec<u8>>,
}

impl Invocation {
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Feeds it a few lines.
    pub(crate) fn input(mut self, lines: &str) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = Some(lines.as_bytes().to_vec());
        self
    }

    /// Feeds it `file` from where it stands.
    pub(crate) fn input_file(mut self, file: File) -> Self {
        self.command.stdin(file);
        self
    }

    /// Runs it and keeps what it prints, up to [`MAX_GIT_OUTPUT_BYTES`].
    pub(crate) fn run(self) -> Result<Finished, RepositoryError> {
        let mut output = Vec::new();
        let mut finished = self.run_into(&mut |chunk| {
            output.extend_from_slice(chunk);
            output.len() <= MAX_GIT_OUTPUT_BYTES
        })?;
        if finished.cut {
            return Err(RepositoryError::new(
                Code::GitFailed,
                format!("git printed more than {MAX_GIT_OUTPUT_BYTES} bytes"),
                "the repository has too many refs to be handled",
            ));
        }
        finished.output = output;
        Ok(finished)
    }

    /// Runs it and hands on what it prints; a `false` ends it.
    pub(crate) fn run_into(
        mut self,
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Finished, RepositoryError> {
        let mut child = self.command.spawn().map_err(|error| failure::of_spawn(&error))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let input = self.input.unwrap_or_default();
        let (cut, complaints) = std::thread::scope(|scope| {
            let complaints = scope.spawn(|| stderr.map_or_else(Vec::new, beginning_of));
            scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(&input)));
            let cut = stdout.is_some_and(|pipe| !pour(pipe, sink));
            if cut {
                // Best effort: it may have ended by itself.
                let _ = child.kill();
            }
            (cut, complaints.join().unwrap_or_default())
        });
        let status = child.wait().map_err(|error| RepositoryError::io("cannot wait for git", &error))?;
        Ok(Finished {
            status,
            cut,
            output: Vec::new(),
            complaints: String::from_utf8_lossy(&complaints).into_owned(),
        })
    }

    /// Runs it; anything but success is an error that `failure` explains.
    pub(crate) fn require(self, doing: &str) -> Result<Vec<u8>, RepositoryError> {
        self.run()?.require(doing)
    }
}

/// A git that has ended.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    /// Whether the reader of its output ended it.
    pub(crate) cut: bool,
    pub(crate) output: Vec<u8>,
    pub(crate) complaints: String,
}

impl Finished {
    /// What it printed, or why it failed while `doing` something.
    pub(crate) fn require(self, doing: &str) -> Result<Vec<u8>, RepositoryError> {
        if self.status.success() {
            return Ok(self.output);
        }
        Err(failure::of_git(doing, &self.complaints, self.status.signal()))
    }
}

/// Reads to the end, or until `sink` has had enough (then false).
fn pour(mut pipe: impl Read, sink: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return true,
            Ok(read) if sink(&buffer[..read]) => {}
            Ok(_) => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

/// Reads to the end and keeps the beginning.
fn beginning_of(pipe: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    pour(pipe, &mut |chunk| {
        let room = MAX_GIT_ERROR_BYTES - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        true
    });
    kept
}
