//! Sandboxes as Docker's containers, with gVisor's runsc as their runtime.

mod client;
mod container;
mod probe;
mod render;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use container::{Container, destroy, start};
pub use probe::{DockerError, Knock};
pub use render::run_arguments;

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

    /// What cannot be had this way, one plain sentence each, with what would help.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = vec![
            "/work is kept in memory: what a task writes there counts as the sandbox's memory, and meets that limit \
             first where sandbox.work_mb is the larger"
                .to_owned(),
        ];
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
