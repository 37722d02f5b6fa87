//! The two host-side relays of a sandbox: its doors.

use std::path::Path;
use std::process::Stdio;

use protocol::folders::Folders;
use tokio::process::{Child, Command};

use crate::folder::SandboxFolder;

/// Both relays. They end with us: their standard input is a pipe whose other end nobody else has.
pub(crate) struct Relays {
    _coordinator: Child,
    _gateway: Child,
}

/// Starts both.
pub(crate) fn open(program: &Path, folder: &SandboxFolder, folders: &Folders) -> std::io::Result<Relays> {
    let relay = |listen: &Path, dial: &Path| {
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
    };
    Ok(Relays {
        _coordinator: relay(&folder.coordinator_door(), &folders.worker_socket())?,
        _gateway: relay(&folder.gateway_door(), &folders.gateway_socket())?,
    })
}

fn address(socket: &Path) -> std::ffi::OsString {
    let mut address = std::ffi::OsString::from("unix://");
    address.push(socket);
    address
}
