//! Docker as the maker of images, through its own command.

use std::{
    io::{self, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use protocol::ids::ImageName;

use crate::failure::{Exit, Failure};

/// Builds an image under this name. What Docker prints goes to standard error, as its progress.
pub(super) fn build(name: &ImageName, context: &Path, file: Option<&Path>) -> Result<(), Failure> {
    let mut command = docker(&["build", "--tag", &name.to_string()]);
    if let Some(file) = file {
        command.arg("--file").arg(file);
    }
    let status = command.arg("--").arg(context).stdout(io::stderr()).status().map_err(not_started)?;
    ended("docker build", status)
}

/// The PATH that an image gives its programs.
pub(super) fn path_variable(name: &ImageName) -> Result<Option<String>, Failure> {
    let format = "{{range .Config.Env}}{{println .}}{{end}}";
    let output = docker(&["image", "inspect", "--format", format, "--", &name.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(not_started)?;
    ended("docker image inspect", output.status)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().find_map(|line| line.strip_prefix("PATH=")).map(str::to_owned))
}

/// Hands the image's file system over as a tar.
pub(super) fn export<T>(
    name: &ImageName,
    take: impl FnOnce(&mut dyn Read) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // Made and never started.
    let made = docker(&["create", "--network", "none", "--", &name.to_string(), "/none"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(not_started)?;
    ended("docker create", made.status)?;
    let container = Container(String::from_utf8_lossy(&made.stdout).trim().to_owned());
    let mut export = docker(&["export", &container.0])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(not_started)?;
    let taken = match export.stdout.take() {
        Some(mut tar) => take(&mut tar),
        None => Err(Failure::new(Exit::Failed, "docker export has no output")),
    };
    if taken.is_err() {
        // It still writes, and nobody reads.
        let _ = export.kill();
    }
    let status = export.wait().map_err(not_started)?;
    let taken = taken?;
    ended("docker export", status)?;
    Ok(taken)
}

/// A container that is gone with this.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        // Told by Docker itself when it fails.
        let _ = docker(&["rm", "--force", &self.0]).stdin(Stdio::null()).stdout(Stdio::null()).status();
    }
}

/// `docker save` here into `docker load` there.
pub(super) fn push_to_vm(name: &str, host: &str) -> Result<(), Failure> {
    if name.starts_with('-') || host.starts_with('-') {
        return Err(Failure::new(Exit::Usage, "an image's or a machine's name does not begin with -"));
    }
    let mut save =
        docker(&["save", name]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(not_started)?;
    let mut load = Command::new("ssh");
    load.args([host, "docker", "load"]).stdout(io::stderr());
    let loading = match save.stdout.take() {
        Some(image) => load.stdin(image).spawn(),
        None => Err(io::Error::other("docker save has no output")),
    };
    let loaded = loading.and_then(|mut load: Child| load.wait()).map_err(|error| {
        let _ = save.kill();
        Failure::new(
            Exit::Failed,
            format!("ssh cannot be started: {error}\ninstall it (apt-get install openssh-client)"),
        )
    });
    let saved = save.wait().map_err(not_started)?;
    // When the machine cannot be reached, Docker's broken pipe is no news.
    ended(&format!("ssh {host} docker load"), loaded?)?;
    ended("docker save", saved)
}

fn docker(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(arguments);
    command
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn not_started(error: io::Error) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("docker cannot be started: {error}\ninstall it (apt-get install docker.io)"),
    )
}

fn ended(what: &str, status: ExitStatus) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, format!("{what} ended with {status}; it said why above")))
}
