//! Makes one sandbox: registers its worker, writes its folder and plan, starts its keeper.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use protocol::WorkerId;
use protocol::client::ClientError;
use protocol::inside::{SandboxLimits, WorkerConfig};
use protocol::worker::NewWorker;
use sandbox::Runtime;
use tokio::process::{Child, Command};

use crate::folder::{Plan, SandboxFolder, Watch, of_worker};
use crate::policy::{policy, work_stores};
use crate::settings::Config;

/// A keeper that was started.
pub(crate) struct Kept {
    pub(crate) worker: WorkerId,
    pub(crate) folder: SandboxFolder,
    pub(crate) keeper: Child,
    /// Ours, until the keeper has its own.
    pub(crate) watch: Watch,
}

/// Why there is none.
pub(crate) enum NotKept {
    /// The coordinator is not there now.
    Unreachable(ClientError),
    /// It refused.
    Refused(ClientError),
    /// Something on this machine.
    Here(anyhow::Error),
}

/// Makes one sandbox.
pub(crate) async fn start(config: &Config, runtime: &Runtime) -> Result<Kept, NotKept> {
    let name = format!("launcher {} on {}", std::process::id(), host_name());
    let new = NewWorker { queue: config.queue.clone(), name };
    let registered = async { config.home.owner()?.register_worker(&new).await }.await;
    let registered = registered.map_err(|error| {
        if error.is_passing() { NotKept::Unreachable(error) } else { NotKept::Refused(error) }
    })?;
    let worker = WorkerConfig {
        worker_id: registered.worker_id,
        queue: config.queue.clone(),
        token: registered.token,
        default_agent: config.agent.clone(),
        limits: limits(config, runtime),
    };
    keep(config, runtime, &worker).map_err(NotKept::Here)
}

/// What the worker watches. Without a sandbox it would see what the whole machine uses, and end every agent for it.
fn limits(config: &Config, runtime: &Runtime) -> SandboxLimits {
    let apart = runtime.counts_apart();
    SandboxLimits {
        memory_bytes: apart.then_some(config.memory_bytes),
        work_files: apart.then_some(config.work_files),
        output_bytes: config.output_bytes,
    }
}

fn keep(config: &Config, runtime: &Runtime, worker: &WorkerConfig) -> anyhow::Result<Kept> {
    let folder = of_worker(&config.home.folders, &worker.worker_id);
    let watch = folder.make(worker).with_context(|| format!("cannot make {}", folder.path().display()))?;
    let spawned = spawn(config, runtime, worker, &folder);
    match spawned {
        Ok(keeper) => Ok(Kept { worker: worker.worker_id.clone(), folder, keeper, watch }),
        Err(error) => {
            // Nothing runs yet.
            folder.remove()?;
            Err(error)
        }
    }
}

fn spawn(
    config: &Config,
    runtime: &Runtime,
    worker: &WorkerConfig,
    folder: &SandboxFolder,
) -> anyhow::Result<Child> {
    let stores = work_stores(config);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&stores)
        .with_context(|| format!("cannot make {}", stores.display()))?;
    let policy = policy(config, runtime, &worker.worker_id, folder)?;
    if !runtime.has_mounts() {
        folder.write_token(&worker.token)?;
    }
    folder.write_plan(&Plan { policy, runtime: runtime.clone(), relay: config.relay.clone() })?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(folder.keeper_log())?;
    let mut keeper = keeper(folder, config.file.as_deref(), &config.real_keys);
    keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    keeper.spawn().context("cannot start a keeper")
}

fn keeper(folder: &SandboxFolder, file: Option<&Path>, real_keys: &[String]) -> Command {
    // Ourselves, even when our file was replaced since.
    let mut keeper = Command::new("/proc/self/exe");
    keeper.arg("--keep").arg(folder.path());
    if let Some(file) = file {
        keeper.arg("--config").arg(file);
    }
    // They are for the gateway alone.
    for name in real_keys {
        keeper.env_remove(name);
    }
    keeper
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_gets_no_real_key() {
        let real_keys = ["ANTHROPIC_API_KEY".to_owned(), "MY_KEY".to_owned()];
        let keeper = keeper(&SandboxFolder::at("/w"), None, &real_keys);
        let kept_back: Vec<_> = keeper.as_std().get_envs().collect();
        assert_eq!(kept_back, real_keys.each_ref().map(|name| (name.as_ref(), None)));
    }
}
