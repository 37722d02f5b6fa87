//! The two host-side relays of a sandbox: its doors.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use protocol::folders::Folders;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::folder::SandboxFolder;

/// The wait before a relay that died is started again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Both relays. They end when this is dropped, and when this process dies: their standard input is a pipe whose
/// other end nobody else has.
pub(crate) struct Relays(#[expect(dead_code, reason = "held for what runs in it")] JoinSet<()>);

/// Starts both, and again when one dies: a door may be made anew under a running sandbox.
pub(crate) fn open(program: &Path, folder: &SandboxFolder, folders: &Folders) -> std::io::Result<Relays> {
    let mut relays = JoinSet::new();
    let doors = [
        (folder.coordinator_door(), folders.worker_socket()),
        (folder.gateway_door(), folders.gateway_socket()),
    ];
    for (listen, dial) in doors {
        let first = start(program, &listen, &dial)?;
        relays.spawn(keep(first, program.to_owned(), listen, dial));
    }
    Ok(Relays(relays))
}

async fn keep(mut relay: Child, program: PathBuf, listen: PathBuf, dial: PathBuf) {
    loop {
        // Child::wait would close the pipe that holds it.
        let held = relay.stdin.take();
        let ended = relay.wait().await;
        drop(held);
        tracing::warn!(?ended, door = %listen.display(), "a relay ended, once more");
        loop {
            tokio::time::sleep(AGAIN_AFTER).await;
            match start(&program, &listen, &dial) {
                Ok(again) => break relay = again,
                Err(error) => tracing::warn!(%error, "cannot start a relay"),
            }
        }
    }
}

fn start(program: &Path, listen: &Path, dial: &Path) -> std::io::Result<Child> {
    Command::new(program)
        .arg("--listen")
        .arg(address(listen))
        .arg("--dial")
        .arg(address(dial))
        // Open to all inside: what they ask for is a key.
        .args(["--mode", "0666", "--exit-with-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

fn address(socket: &Path) -> OsString {
    let mut address = OsString::from("unix://");
    address.push(socket);
    address
}
