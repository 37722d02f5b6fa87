//! The relay: carries a request to the workers' door and back.

use std::{process::Stdio, time::Duration};

use protocol::client::{Endpoint, knock};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

use super::check::Check;
use crate::{context::Context, programs};

const NAME: &str = "relay";
/// Far over what it takes.
const WITHIN: Duration = Duration::from_secs(10);
const REMEDY: &str =
    "try it by hand: code-workers-relay --listen unix:///tmp/door.sock --dial unix://…/worker.sock";

/// Starts one in a folder of its own, as launchers do, and sends a request through it.
pub(super) async fn carries(context: &Context, coordinator_is_there: bool) -> Check {
    if !coordinator_is_there {
        return Check::skipped(NAME, "the coordinator does not answer");
    }
    let answer =
        timeout(WITHIN, through(context)).await.unwrap_or_else(|_| Err("no answer in 10 s".to_owned()));
    match answer {
        Ok(401) => Check::ok(NAME, "carries a request to the workers' door and back"),
        Ok(status) => Check::failed(NAME, format!("the answer through it was {status}, not 401"), REMEDY),
        Err(why) => Check::failed(NAME, why, REMEDY),
    }
}

async fn through(context: &Context) -> Result<u16, String> {
    let told = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let folder = tempfile::tempdir().map_err(|error| told("a folder for its socket", &error))?;
    let door = folder.path().join("door.sock");
    let program = programs::find("code-workers-relay").map_err(|_| "the program is missing".to_owned())?;
    let mut relay = Command::new(program)
        .arg("--listen")
        .arg(format!("unix://{}", door.display()))
        .arg("--dial")
        .arg(format!("unix://{}", context.folders.worker_socket().display()))
        .arg("--exit-with-stdin")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| told("it does not start", &error))?;
    let stdout = relay.stdout.take().ok_or("it has no output")?;
    // Its one line says that it listens.
    let line = BufReader::new(stdout).lines().next_line().await;
    line.map_err(|error| told("its output", &error))?.ok_or("it ended at once")?;
    knock(Endpoint::Unix(door)).await.map_err(|error| error.to_string())
}
