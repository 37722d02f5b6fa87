//! What stands around a worker that a launcher of ours has started: its environment says so.

use std::{
    io,
    path::{Path, PathBuf},
};

use protocol::{client::Endpoint, inside};

/// The variable that names the folder below which all of [`inside`] is: there is no sandbox.
const ROOT: &str = "CODE_WORKERS_SANDBOX_ROOT";
/// The variable that names the coordinator where the doors are on a network.
const COORDINATOR: &str = "COORDINATOR_URL";
/// The variable in which `init` tells `work` where agents find the gateway.
pub(crate) const GATEWAY: &str = "CODE_WORKERS_GATEWAY_URL";

/// What stands around a worker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Around {
    /// A sandbox, with its doors mounted.
    Sandbox,
    /// A sandbox on a network, with its doors on it: the coordinator's.
    Network(Endpoint),
    /// Nothing: the paths of a sandbox are below this folder, and the agent's user is the worker's.
    Nothing(PathBuf),
}

impl Around {
    /// Reads it.
    ///
    /// # Errors
    /// When the coordinator's address is none.
    pub(crate) fn from_env(env: impl Fn(&str) -> Option<String>) -> io::Result<Self> {
        if let Some(root) = env(ROOT) {
            return Ok(Self::Nothing(root.into()));
        }
        let Some(url) = env(COORDINATOR) else { return Ok(Self::Sandbox) };
        let endpoint = url.parse().map_err(|error| io::Error::other(format!("{COORDINATOR}: {error}")))?;
        Ok(Self::Network(endpoint))
    }

    /// Where a path of [`inside`] is.
    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        match self {
            Self::Nothing(root) => root.join(inside.strip_prefix("/").unwrap_or(inside)),
            Self::Sandbox | Self::Network(_) => inside.to_owned(),
        }
    }

    /// The folder of doors: where a link leads, since a socket's path has little room (108 bytes, unix(7)).
    pub(crate) fn doors(&self) -> PathBuf {
        let doors = self.path(inside::DOORS);
        doors.read_link().unwrap_or(doors)
    }

    /// Where the worker finds the coordinator.
    pub(crate) fn coordinator(&self) -> Endpoint {
        match self {
            Self::Network(endpoint) => endpoint.clone(),
            Self::Sandbox | Self::Nothing(_) => Endpoint::Unix(self.doors().join(inside::COORDINATOR_DOOR)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_is_told_by_the_launcher_alone() {
        let around = |name: &'static str, value: &'static str| {
            Around::from_env(move |asked| (asked == name).then(|| value.to_owned())).unwrap()
        };
        assert_eq!(around("HOME", "/"), Around::Sandbox);
        let network = around("COORDINATOR_URL", "http://skia:7222");
        assert_eq!(network.coordinator(), "http://skia:7222".parse().unwrap());
        assert_eq!(network.path("/work"), Path::new("/work"));
        let bare = around("CODE_WORKERS_SANDBOX_ROOT", "/home/me/root");
        assert_eq!(bare.path("/work"), Path::new("/home/me/root/work"));
        let door = "/home/me/root/run/code-workers/doors/coordinator.sock";
        assert_eq!(bare.coordinator(), Endpoint::Unix(door.into()));
        assert!(Around::from_env(|_| None).is_ok());
    }
}
