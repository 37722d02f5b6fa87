//! Starting and ending programs of the agent's user.

use std::{ffi::OsStr, io, process::Stdio, time::Duration};

use rustix::process::{Signal, kill_process};
use tokio::{process::Command, time::timeout};

use crate::{
    below,
    helper::of_user,
    places::{Places, Reach},
};

/// How long the helper that ends the agent's processes may take itself.
const KILL_WITHIN: Duration = Duration::from_secs(10);
/// How often that helper is started while it fails. It runs as the agent's user, so what it is to end can end or
/// stop it first.
const KILL_TRIES: u32 = 5;
/// How long ending all may take, however often it is tried.
const END_WITHIN: Duration = Duration::from_secs(30);

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

/// Kills what there is of the agent's at this moment, without a helper, whose start takes longer than an agent needs to
/// fill the sandbox. What starts meanwhile is for [`end_all`].
pub(crate) fn kill_now(places: &Places) {
    if places.reach == Reach::User {
        for process in of_user(places.agent.uid) {
            // One that has ended by itself is as good.
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

/// Ends every process of the agent's user, in bounded time.
///
/// # Errors
/// When processes may be left: what the last helper said, or that the time was over.
pub(crate) async fn end_all(places: &Places) -> io::Result<()> {
    let ending = async {
        let mut ended = signal_all(places, Signal::KILL).await;
        for _ in 1..KILL_TRIES {
            if ended.is_ok() {
                break;
            }
            ended = signal_all(places, Signal::KILL).await;
        }
        ended
    };
    timeout(END_WITHIN, ending).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Signals every process of the agent's. With SIGKILL, none is left afterwards.
///
/// # Errors
/// When the helper does not run, or processes are left.
pub(crate) async fn signal_all(places: &Places, signal: Signal) -> io::Result<()> {
    if let Reach::Below(root) = places.reach {
        let signalled = tokio::task::spawn_blocking(move || below::signal_all(root, signal));
        return signalled.await.map_err(io::Error::other)?;
    }
    let mut command = helper(places, "kill-user");
    command.arg("--signal").arg(signal.as_raw().to_string()).stderr(Stdio::piped());
    let output = timeout(KILL_WITHIN, command.output())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
