//! A container's life.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Child;

use super::render::{name, run_arguments};
use super::{Docker, client, shims};
use crate::policy::{Policy, SandboxId};
use crate::start::{Exit, Files, Signal, StartError};

/// A container that was started by this process.
#[derive(Debug)]
pub(crate) struct Container {
    docker: Docker,
    name: String,
    folder: PathBuf,
    /// `docker wait`: it ends when the container has.
    waits: Child,
}

/// Starts the container; `folder` keeps what it printed.
pub(crate) async fn start(policy: &Policy, docker: &Docker, folder: &Path) -> Result<Container, StartError> {
    let prepare = |why| StartError::Prepare { folder: folder.to_owned(), why };
    let spawn = |why| StartError::Spawn { program: docker.program.clone(), why };
    DirBuilder::new().mode(0o700).create(folder).map_err(prepare)?;
    let addresses = shims::start(policy, docker).await.map_err(StartError::Docker)?;
    let line = run_arguments(policy, docker, &addresses);
    let output = client::output(&docker.program, line).await.map_err(spawn)?;
    if !output.status.success() {
        return Err(StartError::Docker(client::complaint(&output)));
    }
    let name = name(&policy.id);
    let waits = client::command(&docker.program, ["wait", &name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(spawn)?;
    Ok(Container { docker: docker.clone(), name, folder: folder.to_owned(), waits })
}

impl Container {
    /// Waits until PID 1 has ended. May be called again, and be dropped half-way.
    pub(crate) async fn wait(&mut self) -> io::Result<Exit> {
        self.waits.wait().await?;
        let format = "{{.State.Running}} {{.State.OOMKilled}} {{.State.ExitCode}}";
        let state = client::ask(&self.docker.program, ["inspect", "--format", format, &self.name]).await?;
        let printed = client::output(&self.docker.program, ["logs", &self.name]).await?;
        fs::write(Files(&self.folder).console(), [printed.stdout, printed.stderr].concat())?;
        exit(&state)
            .ok_or_else(|| io::Error::other(format!("docker tells the end of {} as {state:?}", self.name)))
    }

    /// Sends a signal to PID 1.
    pub(crate) async fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = match signal {
            Signal::Terminate => "TERM",
            Signal::Kill => "KILL",
        };
        client::ask(&self.docker.program, ["kill", "--signal", signal, &self.name]).await.map(|_| ())
    }
}

fn exit(state: &str) -> Option<Exit> {
    let mut fields = state.split_whitespace();
    let (running, oom, code) = (fields.next()?, fields.next()?, fields.next()?.parse::<u8>().ok()?);
    match (running, oom, code) {
        ("true", ..) => None,
        (_, "true", _) => Some(Exit::OutOfMemory),
        (_, _, code @ 0..=128) => Some(Exit::Code(code)),
        (_, _, code) => Some(Exit::Signal(code - 128)),
    }
}

/// Ends and removes the container and its shims; none is no error.
pub(crate) async fn destroy(docker: &Docker, id: &SandboxId) -> io::Result<()> {
    for name in shims::names(docker, id) {
        remove(docker, &name).await?;
    }
    Ok(())
}

async fn remove(docker: &Docker, name: &str) -> io::Result<()> {
    let output = client::output(&docker.program, ["rm", "--force", "--volumes", name]).await?;
    let complaint = client::complaint(&output);
    if output.status.success() || complaint.contains("No such container") {
        return Ok(());
    }
    Err(io::Error::other(complaint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_container_is_told_as_docker_tells_it() {
        for (state, told) in [
            ("false false 0\n", Some(Exit::Code(0))),
            ("false false 128\n", Some(Exit::Code(128))),
            ("false false 137\n", Some(Exit::Signal(9))),
            ("false true 137\n", Some(Exit::OutOfMemory)),
            ("true false 0\n", None),
            ("", None),
        ] {
            assert_eq!(exit(state), told, "{state:?}");
        }
    }
}
