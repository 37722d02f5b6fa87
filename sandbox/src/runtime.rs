//! The ways to stand a sandbox up, behind one door: start it, wait for it, signal it, leave nothing of it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bare::{self, Bare};
use crate::destroy::{self, DestroyError};
use crate::docker::{self, Docker};
use crate::fortress::{self, Fortress};
use crate::policy::{Policy, SandboxId};
use crate::process;
use crate::runsc::Runsc;
use crate::start::{self, Exit, Signal, StartError};

/// What stands between what runs inside and the host. There is no way from one to another but to be told so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// gVisor's runsc, run directly.
    Gvisor(Runsc),
    /// Docker with runsc as its runtime.
    Docker(Docker),
    /// An AI Fortress, whose own launcher starts the container.
    Fortress(Fortress),
    /// Nothing: the bare host.
    None(Bare),
}

impl Runtime {
    /// In a few words, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Gvisor(runsc) => {
                format!("runsc {}{}", runsc.version(), if runsc.rootless() { ", rootless" } else { "" })
            }
            Self::Fortress(fortress) => {
                format!("fortress {}, image {}", fortress.program().display(), fortress.image())
            }
            Self::None(_) => "no sandbox".to_owned(),
            Self::Docker(docker) => format!("Docker with {}, image {}", docker.runtime(), docker.image()),
        }
    }

    /// Whether what is mounted is seen inside: the doors, the outbox, the mirror. Else what runs inside has to find its
    /// own way out, and nothing outlives it.
    pub fn has_mounts(&self) -> bool {
        !matches!(self, Self::Fortress(_))
    }

    /// Whether memory and files that are counted inside are the sandbox's alone, and not the whole machine's.
    pub fn counts_apart(&self) -> bool {
        !matches!(self, Self::None(_))
    }

    /// What cannot be had this way on this machine, one plain sentence each, with what would help.
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Self::Gvisor(runsc) => runsc.warnings(),
            Self::Docker(docker) => docker.warnings(),
            Self::Fortress(fortress) => fortress.warnings(),
            Self::None(bare) => bare.warnings(),
        }
    }
}

/// A sandbox that was started by this process. Dropping it leaves it running; [`destroy()`] ends it.
#[derive(Debug)]
pub struct Sandbox {
    folder: PathBuf,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Gvisor(Box<start::Sandbox>),
    Docker(Box<docker::Container>),
    Process(Box<process::Process>),
}

/// Starts a sandbox in `folder`, which must not be there yet and afterwards belongs to the sandbox. Answers when
/// the runtime has made it; what it prints goes to `console.log` in there, at most 1 MiB of it.
///
/// # Errors
/// [`StartError`]; what was made is for [`destroy()`] to remove.
pub async fn start(policy: &Policy, runtime: &Runtime, folder: &Path) -> Result<Sandbox, StartError> {
    let running = match runtime {
        Runtime::Gvisor(runsc) => Running::Gvisor(Box::new(start::start(policy, runsc, folder).await?)),
        Runtime::Docker(docker) => Running::Docker(Box::new(docker::start(policy, docker, folder).await?)),
        Runtime::Fortress(fortress) => Running::Process(Box::new(fortress::start(policy, fortress, folder)?)),
        Runtime::None(_) => Running::Process(Box::new(bare::start(policy, folder)?)),
    };
    Ok(Sandbox { folder: folder.to_owned(), running })
}

/// Ends what runs of the sandbox and removes all that it had, `folder` included. Idempotent: it can be called
/// twice, on a sandbox that was never finished, and by a process that did not start it.
///
/// # Errors
/// When something is left.
pub async fn destroy(folder: &Path, id: &SandboxId, runtime: &Runtime) -> Result<(), DestroyError> {
    if let Runtime::Docker(docker) = runtime {
        docker::destroy(docker, id).await.map_err(|why| DestroyError::new(id, folder, why))?;
    }
    destroy::destroy(folder, id).await
}

impl Sandbox {
    /// Waits until PID 1 has ended. May be called again: it answers the same.
    ///
    /// # Errors
    /// When nobody can tell.
    pub async fn wait(&mut self) -> io::Result<Exit> {
        match &mut self.running {
            Running::Gvisor(sandbox) => sandbox.wait().await,
            Running::Docker(container) => container.wait().await,
            Running::Process(process) => process.wait().await,
        }
    }

    /// Sends a signal to PID 1.
    ///
    /// # Errors
    /// When it could not be sent.
    pub async fn signal(&self, signal: Signal) -> io::Result<()> {
        match &self.running {
            Running::Gvisor(sandbox) => sandbox.signal(signal).await,
            Running::Docker(container) => container.signal(signal).await,
            Running::Process(process) => process.signal(signal, &self.folder).await,
        }
    }

    /// The last line that was printed.
    pub fn last_line(&self) -> Option<String> {
        start::last_line(&self.folder)
    }
}
