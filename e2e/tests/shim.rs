//! What `install.sh --vm` sets up in a VM's Docker: sandboxes in its network find the coordinator under `skia`.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    process::Command,
};

use e2e::{Image, Place, Process};

const UNIT: &str = include_str!("../../install/vm/coordinator-shim.service");

/// A network of sandboxes that goes with its holder.
struct Network(String);

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["network", "rm", &self.0]).output();
    }
}

#[test]
fn the_shim_is_skia_in_the_network_of_the_sandboxes() {
    let Some(image) = Image::with_docker() else { return };
    let relay = format!("{}:/code-workers-relay:ro", Place::new().program("code-workers-relay").display());
    let network = Network(format!("code-workers-net-{}", std::process::id()));
    let docker = |arguments: &[&str]| {
        let output = Command::new("docker").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    docker(&["network", "create", "--internal", &network.0]);

    // In place of the unit that has the vsock.
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let door = UnixListener::bind(place.path().join("door.sock")).unwrap();
    fs::set_permissions(place.path().join("door.sock"), fs::Permissions::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for caller in door.incoming() {
            caller.unwrap().write_all(b"the coordinator").unwrap();
        }
    });

    let name = format!("code-workers-shim-{}", std::process::id());
    let line = UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/docker ")).unwrap();
    let line = line
        .replace("/run/private/coordinator-shim", place.path().to_str().unwrap())
        .replace("sandbox_net", &network.0)
        .replace("--name coordinator-shim", &format!("--name {name}"))
        .replace(" code-workers-shim ", &format!(" --volume {relay} {} ", image.name()));
    let mut shim = Process::start("shim", Command::new("docker").args(line.split_whitespace()));
    shim.wait_for("listening on");
    let label =
        docker(&["inspect", "--format", "{{index .Config.Labels \"ai-fortress.shim.alias\"}}", &name]);
    assert_eq!(label.trim(), "skia");

    // What asks is in the network, and says what it hears in a folder of ours.
    let sandbox = format!("{name}-sandbox");
    let folder = format!("{}:/out", place.path().display());
    let mut asks = Command::new("docker");
    asks.args(["run", "--rm", "--name", &sandbox, "--network", &network.0, "--volume", &folder]);
    asks.args(["--volume", &relay, image.name()]);
    asks.args(["/code-workers-relay", "--listen", "unix:///out/asks.sock", "--dial", "tcp://skia:7222"]);
    let mut asks = Process::start("sandbox", &mut asks);
    asks.wait_for("listening on");
    let mut heard = String::new();
    UnixStream::connect(place.path().join("asks.sock")).unwrap().read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "the coordinator");
}
