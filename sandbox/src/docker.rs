//! Sandboxes as Docker's containers, with gVisor's runsc as their runtime.

mod client;
mod container;
mod probe;
mod render;
mod shims;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::policy::{HostPath, InsidePath};

pub(crate) use container::{Container, destroy, start};
pub use probe::{DockerError, Knock};
pub use render::{Addresses, run_arguments, shim_arguments};

/// A Docker that has started a container under gVisor from this image, and let it reach a door. Made by
/// [`Docker::probe`]; it can be written to a file and used by another process of the same user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Docker {
    /// The client: a path, or a name on PATH.
    pub(crate) program: PathBuf,
    /// What the daemon calls its runsc.
    pub(crate) runtime: String,
    /// The image, as `docker run` takes it; never pulled.
    pub(crate) image: String,
    /// Whether the daemon's runsc leaves cgroups alone, and with them the limits of memory and CPU.
    pub(crate) without_cgroups: bool,
    /// Whether sandboxes are on a network.
    pub(crate) network: Network,
}

/// What network a container has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Its own loopback. The doors are unix sockets that are mounted.
    None,
    /// One of Docker's, made with `--internal`. The doors are containers on it.
    Joined(Joined),
}

/// A network with doors on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {
    /// Docker's name for it.
    pub name: String,
    /// The relay's program on the host, static.
    pub relay: HostPath,
    /// Which of the policy's shared mounts has the doors: it is not the sandbox's then, but the shims'.
    pub doors: InsidePath,
    /// The doors.
    pub shims: Vec<Shim>,
}

/// A container that turns a mounted door into a port of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shim {
    /// Its name on the network.
    pub alias: String,
    /// The port that it listens on.
    pub port: u16,
    /// The unix socket's file name in the folder of doors.
    pub door: String,
}

impl Docker {
    /// What the daemon calls its runsc.
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    /// The image.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Whether sandboxes are on a network, and their doors with them.
    pub fn is_on_a_network(&self) -> bool {
        matches!(self.network, Network::Joined(_))
    }

    /// What cannot be had this way, one plain sentence each, with what would help.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = vec![
            "/work is kept in memory: what a task writes there counts as the sandbox's memory, and meets that limit \
             first where sandbox.work_mb is the larger"
                .to_owned(),
        ];
        if let Network::Joined(joined) = &self.network {
            warnings.push(format!(
                "sandboxes are on the network {}: the containers there can see and call one another, what listens in \
                 one can be called from the others, and so can what listens on all addresses of this machine (not \
                 where the network was made with --opt com.docker.network.bridge.inhibit_ipv4=true); without --network \
                 each has its own loopback alone",
                joined.name
            ));
        }
        if self.without_cgroups {
            warnings.push(format!(
                "Docker's runtime {} runs with --ignore-cgroups: memory and CPU of a sandbox are not limited (take it \
                 out of runtimeArgs in daemon.json where the kernel allows)",
                self.runtime
            ));
        }
        warnings
    }
}
