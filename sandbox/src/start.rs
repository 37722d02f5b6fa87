//! Writes a sandbox's bundle, starts runsc on it, and tells how it ended.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::policy::{Policy, SandboxId};
use crate::runsc::{MemoryLimit, Runsc};
use crate::{cgroup, console, destroy, root_folder, spec};

/// How long what a dead sandbox printed may take to arrive. Its end comes with the last of its processes.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(10);

/// How often it is looked whether the kernel has killed something: nothing tells of it.
const LOOK_FOR_KILLS: Duration = Duration::from_millis(500);

/// How long `runsc kill` may take.
const KILL_TIME: Duration = Duration::from_secs(20);

/// The files in a sandbox's own folder; [`crate::destroy()`] needs nothing else.
pub(crate) struct Files<'a>(pub(crate) &'a Path);

impl Files<'_> {
    pub(crate) fn root(&self) -> PathBuf {
        self.0.join("root")
    }
    /// What runsc remembers of this sandbox, and of no other.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }
    /// A link to the folder that holds the store of `/work`.
    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store")
    }
    /// The cgroup's folders, as a JSON list.
    pub(crate) fn cgroups(&self) -> PathBuf {
        self.0.join("cgroups.json")
    }
    fn log(&self) -> PathBuf {
        self.0.join("runsc.log")
    }
    pub(crate) fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }
    fn pid(&self) -> PathBuf {
        self.0.join("pid")
    }
}

/// A sandbox that was started by this process. Dropping it leaves it running; [`crate::destroy()`] ends it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    id: SandboxId,
    folder: PathBuf,
    runsc: Runsc,
    child: Child,
    console: JoinHandle<io::Result<()>>,
    cgroups: Vec<PathBuf>,
}

/// How a sandbox ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// PID 1 ended by itself with this code (0..=128).
    Code(u8),
    /// PID 1 was ended by this signal (a program that answers 128 + n looks the same).
    Signal(u8),
    /// The kernel of the host killed it at its memory limit. Told only where it has a cgroup.
    OutOfMemory,
    /// PID 1 never ran, or gVisor itself failed; with the reason that runsc gave.
    Failed(String),
}

/// A sandbox that did not come to be. What was made of it is for [`crate::destroy()`] to remove.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bundle could not be written.
    #[error("cannot prepare the sandbox in {folder}: {why}")]
    Prepare {
        /// The sandbox's folder.
        folder: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// The cgroup could not be made.
    #[error("cannot limit the sandbox's memory and CPU: {0}")]
    Cgroup(io::Error),
    /// The binary could not be executed.
    #[error("cannot run {program}: {why}")]
    Spawn {
        /// What was to be run.
        program: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// runsc ran and gave up.
    #[error("runsc could not start the sandbox: {0}")]
    Runsc(String),
    /// Docker gave up.
    #[error("Docker could not start the sandbox: {0}")]
    Docker(String),
}

/// Starts a sandbox in `folder`, which must not be there yet and afterwards belongs to the sandbox. Answers when
/// runsc has made it; what it prints goes to `console.log` in there, at most 1 MiB of it.
pub(crate) async fn start(policy: &Policy, runsc: &Runsc, folder: &Path) -> Result<Sandbox, StartError> {
    prepare(policy, runsc, folder).map_err(|why| StartError::Prepare { folder: folder.to_owned(), why })?;
    let cgroups = match &runsc.memory {
        MemoryLimit::Cgroup(cgroups) => {
            cgroups.make(&policy.id, &policy.limits).map_err(StartError::Cgroup)?
        }
        MemoryLimit::AddressSpace => Vec::new(),
    };
    match attempt(policy, runsc, folder, &cgroups).await? {
        Attempt::Running(sandbox) => return Ok(*sandbox),
        // gVisor now and then dies at its start with SIGABRT or SIGSEGV; once more mends it.
        Attempt::Died(status) if matches!(code(status), 134 | 139) => {
            tracing::warn!(sandbox = %policy.id, %status, "runsc crashed at start, once more");
            destroy::start_over(folder)
                .await
                .map_err(|why| StartError::Prepare { folder: folder.to_owned(), why })?;
        }
        Attempt::Died(status) => return Err(StartError::Runsc(reason(folder, status))),
    }
    match attempt(policy, runsc, folder, &cgroups).await? {
        Attempt::Running(sandbox) => Ok(*sandbox),
        Attempt::Died(status) => Err(StartError::Runsc(reason(folder, status))),
    }
}

enum Attempt {
    Running(Box<Sandbox>),
    Died(ExitStatus),
}

fn prepare(policy: &Policy, runsc: &Runsc, folder: &Path) -> io::Result<()> {
    let files = Files(folder);
    let private = |path: &Path| DirBuilder::new().mode(0o700).create(path);
    private(folder)?;
    let store = policy.work.store.as_path().join(policy.id.as_str());
    // The link first: what is made after it is found again by destroy, however far this comes.
    symlink(&store, files.store())?;
    private(&store)?;
    if let MemoryLimit::Cgroup(cgroups) = &runsc.memory {
        fs::write(files.cgroups(), serde_json::to_vec(&cgroups.folders(&policy.id))?)?;
    }
    private(&files.state())?;
    root_folder::build(&files.root(), policy)?;
    let spec = spec::oci_spec(policy, runsc, &files.root(), &store).map_err(io::Error::other)?;
    fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&spec)?)
}

async fn attempt(
    policy: &Policy,
    runsc: &Runsc,
    folder: &Path,
    cgroups: &[PathBuf],
) -> Result<Attempt, StartError> {
    let failed = |why| StartError::Prepare { folder: folder.to_owned(), why };
    let files = Files(folder);
    let pid = pid_pipe(&files.pid()).map_err(failed)?;
    let (reader, writer) = io::pipe().map_err(failed)?;
    let reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(failed)?;
    let (program, arguments) = command_line(policy, runsc, folder, cgroups);
    let mut child = Command::new(&program)
        .args(&arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(once_more(&writer).map_err(failed)?)
        .stderr(writer)
        .spawn()
        .map_err(|why| StartError::Spawn { program: program.into(), why })?;
    let target = files.console();
    let console = tokio::spawn(async move { console::keep(reader, &target).await });
    tokio::select! {
        made = pid.readable() => made.map_err(failed)?,
        status = child.wait() => {
            last_words(console).await;
            return status.map(Attempt::Died).map_err(failed);
        }
    }
    Ok(Attempt::Running(Box::new(Sandbox {
        id: policy.id.clone(),
        folder: folder.to_owned(),
        runsc: runsc.clone(),
        child,
        console,
        cgroups: cgroups.to_vec(),
    })))
}

/// The same pipe, opened apart. gVisor sets its end to not block, and a copy would share that with the other.
fn once_more(writer: &io::PipeWriter) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", writer.as_raw_fd()))
}

/// runsc writes its pid file when the sandbox has been made. Ours is a pipe, so that this is an event.
fn pid_pipe(path: &Path) -> io::Result<pipe::Receiver> {
    if !path.exists() {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    }
    pipe::OpenOptions::new().read_write(true).open_receiver(path)
}

/// A shell steps into the cgroup before it becomes runsc, so that all of runsc is in it from its first byte.
fn command_line(
    policy: &Policy,
    runsc: &Runsc,
    folder: &Path,
    cgroups: &[PathBuf],
) -> (OsString, Vec<OsString>) {
    const ENTER: &str =
        r#"while [ "$1" != -- ]; do echo 0 >"$1"/cgroup.procs || exit 125; shift; done; shift; exec "$@""#;
    let files = Files(folder);
    let mut line = runsc.arguments(&files.state());
    line.extend([
        OsString::from("--log"),
        files.log().into(),
        "run".into(),
        "--bundle".into(),
        folder.into(),
    ]);
    line.extend([OsString::from("--pid-file"), files.pid().into(), policy.id.as_str().into()]);
    let program = runsc.program.clone().into_os_string();
    if cgroups.is_empty() {
        return (program, line);
    }
    let mut shell: Vec<OsString> = vec!["-c".into(), ENTER.into(), "sh".into()];
    shell.extend(cgroups.iter().map(OsString::from));
    shell.extend([OsStr::new("--").to_owned(), program]);
    shell.extend(line);
    ("/bin/sh".into(), shell)
}

impl Sandbox {
    /// Waits until PID 1 has ended. May be called again: it answers the same.
    pub(crate) async fn wait(&mut self) -> io::Result<Exit> {
        let starved = tokio::select! {
            status = self.child.wait() => status.map(Some)?,
            () = killed_for_memory(&self.cgroups) => None,
        };
        let status = match starved {
            Some(status) => status,
            None => {
                destroy::end_processes(&self.folder).await;
                self.child.wait().await?
            }
        };
        if !self.console.is_finished() {
            let _ = tokio::time::timeout(LAST_WORDS, &mut self.console).await;
        }
        Ok(self.exit(status))
    }

    fn exit(&self, status: ExitStatus) -> Exit {
        if !status.success() && cgroup::oom_kills(&self.cgroups) > 0 {
            return Exit::OutOfMemory;
        }
        match code(status) {
            // What runsc answers when it gives up itself; a program may answer 128 too, but then no error is
            // in the log.
            128 if log_error(&self.folder).is_some() => Exit::Failed(reason(&self.folder, status)),
            code @ 0..=128 => Exit::Code(code),
            code => Exit::Signal(code - 128),
        }
    }

    /// Sends a signal to PID 1.
    pub(crate) async fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = match signal {
            Signal::Terminate => "TERM",
            Signal::Kill => "KILL",
        };
        let kill = Command::new(&self.runsc.program)
            .args(self.runsc.arguments(&Files(&self.folder).state()))
            .args(["kill", self.id.as_str(), signal])
            .env_clear()
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(KILL_TIME, kill).await??;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("runsc kill: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }
}

/// What PID 1 can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: end soon.
    Terminate,
    /// SIGKILL: end now.
    Kill,
}

/// Ends when the kernel has killed anything of the sandbox. Where that was one of the processes that hold a guest's
/// memory, which version 1 of cgroups ends alone, gVisor waits for it for ever.
async fn killed_for_memory(cgroups: &[PathBuf]) {
    while cgroup::oom_kills(cgroups) == 0 {
        tokio::time::sleep(LOOK_FOR_KILLS).await;
    }
}

async fn last_words(console: JoinHandle<io::Result<()>>) {
    let _ = tokio::time::timeout(LAST_WORDS, console).await;
}

/// As a shell tells it: the code, or 128 + the signal.
pub(crate) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Why runsc gave up, in its own words where it left any.
fn reason(folder: &Path, status: ExitStatus) -> String {
    log_error(folder)
        .or_else(|| last_line(folder))
        .unwrap_or_else(|| format!("it ended with {status} and gave no reason"))
}

/// The last line that a sandbox printed.
pub(crate) fn last_line(folder: &Path) -> Option<String> {
    let console = fs::read(Files(folder).console()).ok()?;
    let text = String::from_utf8_lossy(&console);
    text.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
}

/// runsc's log is JSON objects without anything between them. The first is the cause, the last what came of it.
fn log_error(folder: &Path) -> Option<String> {
    let log = fs::read(Files(folder).log()).ok()?;
    let entries = serde_json::Deserializer::from_slice(&log).into_iter::<serde_json::Value>();
    let errors = entries.map_while(Result::ok).filter(|entry| entry["level"] == "error");
    let texts: Vec<_> = errors.filter_map(|entry| entry["msg"].as_str().map(str::to_owned)).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}
