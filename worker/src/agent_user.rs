//! Starting and ending programs of the agent's user.

use std::{ffi::OsStr, io, process::Stdio, time::Duration};

use rustix::process::Signal;
use tokio::process::Command;

use crate::places::Places;

/// How long the helper that ends the agent's processes may take itself.
const KILL_WITHIN: Duration = Duration::from_secs(10);

/// A command that runs as the agent's user in the work tree, with an empty environment and no standard input.
/// Ended when its handle is dropped.
pub(crate) fn command(places: &Places, program: impl AsRef<OsStr>) -> Command {
    let mut command = helper(places, "as-user");
    command.arg("--").arg(program).current_dir(&places.work);
    command
}

/// A command for one of the helper modes, told the agent's user.
pub(crate) fn helper(places: &Places, mode: &str) -> Command {
    let mut command = Command::new(&places.helper);
    let (uid, gid) = (places.agent.uid.to_string(), places.agent.gid.to_string());
    command.args([mode, "--uid", &uid, "--gid", &gid]).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// Signals every process of the agent's user. With SIGKILL, none is left afterwards.
///
/// # Errors
/// When the helper does not run, or processes are left.
pub(crate) async fn signal_all(places: &Places, signal: Signal) -> io::Result<()> {
    let mut command = helper(places, "kill-user");
    command.arg("--signal").arg(signal.as_raw().to_string()).stderr(Stdio::piped());
    let output = tokio::time::timeout(KILL_WITHIN, command.output())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
