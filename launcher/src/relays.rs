//! The two host-side relays of a sandbox: its doors.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use protocol::folders::Folders;
use protocol::settings::KeySource;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::folder::SandboxFolder;

/// The wait before a relay that died is started again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Connections of one sandbox at once, through each door. An agent needs a handful, and none may exhaust the open
/// files of the servers behind, which serve all sandboxes.
const CONNECTIONS: u8 = 64;

/// All that a relay may know of our environment: it holds nothing, so that nothing can be taken from it.
const ENVIRONMENT: [&str; 2] = ["RUST_LOG", "LOG_FORMAT"];

/// Both relays. They end when this is dropped, and when this process dies: their standard input is a pipe whose
/// other end nobody else has.
pub(crate) struct Relays(#[expect(dead_code, reason = "held for what runs in it")] JoinSet<()>);

/// Starts both, and again when one dies: a door may be made anew under a running sandbox.
pub(crate) fn open(
    program: &Path,
    folder: &SandboxFolder,
    folders: &Folders,
    keys: &KeySource,
) -> std::io::Result<Relays> {
    let mut relays = JoinSet::new();
    let doors = [
        (folder.coordinator_door(), address(&folders.worker_socket())),
        (folder.gateway_door(), gateway(folders, keys)),
    ];
    for (listen, dial) in doors {
        let first = start(program, &listen, &dial)?;
        relays.spawn(keep(first, program.to_owned(), listen, dial));
    }
    Ok(Relays(relays))
}

/// Where agents are led: to whoever takes the keys that they are given.
fn gateway(folders: &Folders, keys: &KeySource) -> OsString {
    match keys {
        KeySource::Bifrost(bifrost) => format!("tcp://{}", bifrost.address).into(),
        KeySource::Builtin | KeySource::Env => address(&folders.gateway_socket()),
    }
}

async fn keep(mut relay: Child, program: PathBuf, listen: PathBuf, dial: OsString) {
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

fn start(program: &Path, listen: &Path, dial: &OsStr) -> std::io::Result<Child> {
    Command::new(program)
        .arg("--listen")
        .arg(address(listen))
        .arg("--dial")
        .arg(dial)
        // Open to all inside: what they ask for is a key.
        .args(["--mode", "0666", "--exit-with-stdin", "--max-connections", &CONNECTIONS.to_string()])
        .env_clear()
        .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn agents_are_led_to_whoever_takes_their_keys() {
        let folders = Folders { config: "/c".into(), data: "/d".into(), run: "/r".into() };
        let bifrost = protocol::settings::Bifrost {
            address: ([127, 0, 0, 1], 8080).into(),
            user: String::new(),
            password: None,
            providers: Vec::new(),
        };
        assert_eq!(gateway(&folders, &KeySource::Bifrost(bifrost)), "tcp://127.0.0.1:8080");
        assert_eq!(gateway(&folders, &KeySource::Builtin), "unix:///r/gateway.sock");
    }

    #[tokio::test]
    async fn a_relay_has_few_connections_and_knows_nothing_of_our_environment() {
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "so that there is something to keep back");
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("relay");
        std::fs::write(&program, "#!/bin/sh\n{ echo \"$*\"; env; } >\"$0.told\"\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut relay = start(&program, Path::new("/a"), OsStr::new("unix:///b")).unwrap();
        assert!(relay.wait().await.unwrap().success());
        let told = std::fs::read_to_string(folder.path().join("relay.told")).unwrap();
        assert!(told.contains("--max-connections 64"), "{told}");
        assert!(!told.contains("CARGO"), "{told}");
    }
}
