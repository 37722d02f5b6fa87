//! The worker of a container: task after task, each in a folder of its own.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use protocol::{
    client::{Endpoint, WorkerClient},
    inside,
};
use rustix::process::{Pid, getegid, geteuid, getppid};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::told::Told;
use crate::{
    agent_user,
    command_line::User,
    exit::Exit,
    places::{PATH, Places, Reach},
    privileges,
    work::{self, Service, drain_on_sigterm},
};

/// Where tasks have their folders.
const SCRATCH: &str = "/tmp";
/// Folders that everybody may write to: what the agent's own user left there goes with its task.
const COMMON: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run/lock"];
/// Tasks that end as broken in a row before the worker gives up; the container's launcher may start another.
const BROKEN_IN_A_ROW: u32 = 3;
/// The rest after one.
const REST: Duration = Duration::from_secs(5);

/// What is said where one user does all.
const TOGETHER: &str = "this worker runs as one user with its agents, so they are not kept apart: an agent can end \
    the worker, and read and write what the worker writes here; run the container as root with the capabilities \
    SETUID, SETGID, KILL and CHOWN to keep them apart";

/// The part `work`: what it was told comes on standard input.
pub(super) fn main() -> Exit {
    let told = match told() {
        Ok(told) => told,
        Err(error) => {
            tracing::error!("what the container was started with does not come through: {error}");
            return Exit::BadConfiguration;
        }
    };
    // Before there is a second thread.
    let apart = privileges::keep_needed();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.and_then(|runtime| runtime.block_on(serve(told, apart)));
    done.unwrap_or_else(|error| {
        tracing::error!("the worker cannot go on: {error}");
        Exit::Broken
    })
}

fn told() -> io::Result<Told> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

async fn serve(told: Told, apart: bool) -> io::Result<Exit> {
    let drain = drain_on_sigterm()?;
    let endpoint: Endpoint = told.coordinator.parse().map_err(io::Error::other)?;
    let (user, notes) = if apart {
        (User { uid: inside::AGENT_UID, gid: inside::AGENT_UID }, Vec::new())
    } else {
        tracing::warn!("{TOGETHER}");
        (User { uid: geteuid().as_raw(), gid: getegid().as_raw() }, vec![TOGETHER.to_owned()])
    };
    let service = Service {
        client: WorkerClient::new(endpoint, told.token).map_err(io::Error::other)?,
        queue: told.queue,
        default_agent: told.agent,
        own_key: told.key,
        limits: inside::SandboxLimits::default(),
        notes,
    };
    tracing::info!("taking tasks of {} from {}", service.queue, told.coordinator);
    // Where the agent has no user of its own, what was here before may be somebody's.
    let spared = if apart { Vec::new() } else { in_common_folders() };
    let mut broken = 0;
    loop {
        let folder = Folder::make(user, apart)?;
        let exit = work::run(&folder.places, &service, drain.clone()).await;
        folder.remove(&spared).await;
        broken = if matches!(exit, Ok(Exit::Done)) { 0 } else { broken + 1 };
        match exit {
            Ok(Exit::Done) if !drain.is_cancelled() => {}
            Ok(Exit::Broken) | Err(_) if broken < BROKEN_IN_A_ROW && !drain.is_cancelled() => {
                rest(&drain).await;
            }
            end => return end,
        }
    }
}

async fn rest(drain: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(REST) => {}
        () = drain.cancelled() => {}
    }
}

/// A task's folder: the work tree and all else. Its name cannot be guessed, so that nobody waits in its place.
struct Folder {
    path: PathBuf,
    places: Places,
}

impl Folder {
    fn make(user: User, apart: bool) -> io::Result<Self> {
        let path = Path::new(SCRATCH).join(format!("code-workers-{}", Uuid::new_v4().simple()));
        let make = |path: &Path, mode| DirBuilder::new().mode(mode).create(path);
        make(&path, 0o755)?;
        let (work, tmp, outbox) = (path.join("work"), path.join("tmp"), path.join("outbox"));
        make(&outbox, 0o700)?;
        // The worker, who may be user 0 without its privileges, has to come as far as the work tree.
        for (agents, mode) in [(&work, 0o755), (&tmp, 0o700)] {
            make(agents, mode)?;
            chown(agents, Some(user.uid), Some(user.gid))?;
        }
        let reach = if apart { Reach::User } else { Reach::Below(parent()?) };
        let places = Places {
            helper: std::env::current_exe()?,
            agent: user,
            work,
            mirror: inside::MIRROR.into(),
            scratch: path.join("scratch"),
            outbox,
            heir: false,
            reach,
            tmp: Some(tmp),
            agent_files: inside::AGENT_FILES.into(),
            agent_programs: inside::AGENT_PROGRAMS.into(),
            path: std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned()),
            gateway: inside::GATEWAY_URL.to_owned(),
        };
        Ok(Self { path, places })
    }

    /// Ends what runs, and removes what it has left: first what is the agent's, as the agent's user, then the rest.
    async fn remove(self, spared: &[PathBuf]) {
        let places = &self.places;
        if let Err(error) = agent_user::end_all(places).await {
            tracing::error!("processes of a task are left: {error}");
        }
        let mut sweep = agent_user::helper(places, "sweep");
        sweep.arg(&self.path).arg(&places.scratch).stderr(Stdio::piped());
        sweep.args(COMMON).args(spared.iter().flat_map(|path| [OsStr::new("--but"), path.as_os_str()]));
        match sweep.output().await {
            Ok(swept) if swept.status.success() => {}
            Ok(swept) => tracing::error!("{}", String::from_utf8_lossy(&swept.stderr).trim()),
            Err(error) => tracing::error!("nothing removes what a task has left: {error}"),
        }
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!("{} stays: {error}", self.path.display());
            }
            _ => {}
        }
    }
}

fn in_common_folders() -> Vec<PathBuf> {
    let entries = COMMON.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The process that takes in orphans.
fn parent() -> io::Result<Pid> {
    getppid().ok_or_else(|| io::Error::other("this process has no parent"))
}
