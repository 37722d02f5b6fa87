//! Sandboxes that an AI Fortress stands up: its own launcher is a program that starts a container, here in the
//! foreground. What is in it, and what holds it in, is the fortress's.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::process::{self, Line, Process};
use crate::start::StartError;

/// The virtual key by which the fortress's own gateway knows who asks; it is handed on where it is set.
const OWN_KEY: &str = "OPENCODE_API_KEY";

/// All that the fortress's launcher may know of our environment: what it needs to find its way, and Docker's.
const ENVIRONMENT: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
];

/// A fortress's launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fortress {
    program: PathBuf,
    image: String,
    repository: String,
}

/// No such launcher.
#[derive(Debug, thiserror::Error)]
#[error(
    "{program} is no AI Fortress launcher that can be run: {why}; install the fortress, or name its launcher in \
     `fortress.agent` of the configuration"
)]
pub struct FortressError {
    program: PathBuf,
    why: io::Error,
}

/// The file beside a sandbox's folder from which a fortress's sandbox takes its key: a worker's token, mode 0600. It
/// stands in no plan, since it is a secret.
#[must_use]
pub fn token_file(folder: &Path) -> PathBuf {
    folder.with_extension("token")
}

impl Fortress {
    /// Looks whether `program` is there; what it does can only be seen by starting it.
    ///
    /// # Errors
    /// When it is no program.
    pub fn probe(program: &Path, image: &str, repository: &str) -> Result<Self, FortressError> {
        let failed = |why| FortressError { program: program.to_owned(), why };
        let found = fs::metadata(program).map_err(failed)?;
        if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
            return Err(failed(io::Error::from(io::ErrorKind::PermissionDenied)));
        }
        Ok(Self { program: program.into(), image: image.to_owned(), repository: repository.to_owned() })
    }

    /// The program that starts the container.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The image.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// What cannot be had or known this way, one plain sentence each.
    pub fn warnings(&self) -> Vec<String> {
        [
            "the walls, the limits and the network are the fortress's own: nothing of it is checked here, and containers \
             on its network may see one another",
            "nothing outlives the container: what a worker could not report before it died is lost, and its task is \
             tried again",
            "the fortress's launcher takes the worker's token as an argument, which other users of this machine can read \
             while it runs; it opens one queue's leases, and dies with the launch",
        ]
        .map(str::to_owned)
        .into()
    }
}

/// What follows the fortress's program: its own interface.
#[must_use]
pub fn fortress_arguments(fortress: &Fortress, token: &str, own_key: Option<&str>) -> Vec<String> {
    let mut line = vec![fortress.repository.clone(), "--image".to_owned(), fortress.image.clone()];
    let told = [
        ("REPO_NAME", Some(fortress.repository.as_str())),
        ("FORTRESS_API_KEY", Some(token)),
        (OWN_KEY, own_key),
    ];
    for (name, value) in told {
        let Some(value) = value else { continue };
        line.extend(["--env".to_owned(), format!("{name}={value}")]);
    }
    line
}

/// Starts the fortress's launcher. Of the policy it takes nothing: it has its own.
pub(crate) fn start(_: &Policy, fortress: &Fortress, folder: &Path) -> Result<Process, StartError> {
    let prepare = |why| StartError::Prepare { folder: folder.to_owned(), why };
    DirBuilder::new().mode(0o700).create(folder).map_err(prepare)?;
    let token = fs::read_to_string(token_file(folder)).map_err(prepare)?;
    let own_key = std::env::var(OWN_KEY).ok().filter(|key| !key.is_empty());
    let environment =
        ENVIRONMENT.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)));
    let line = Line {
        program: fortress.program.clone(),
        arguments: fortress_arguments(fortress, token.trim(), own_key.as_deref()),
        environment: environment.collect::<Vec<(String, OsString)>>(),
    };
    process::start(&line, folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fortress_is_told_its_repository_its_image_and_this_launchs_keys() {
        let fortress = Fortress {
            program: "/home/me/bin/agent".into(),
            image: "worker:1".into(),
            repository: "demo".into(),
        };
        insta::assert_json_snapshot!(fortress_arguments(&fortress, "cwt-w-1", Some("sk-fortress")));
        let without = fortress_arguments(&fortress, "cwt-w-1", None);
        assert!(!without.concat().contains(OWN_KEY));
    }

    #[test]
    fn a_launcher_that_is_not_there_or_no_program_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("agent");
        let told = |program: &Path| Fortress::probe(program, "i", "r").unwrap_err().to_string();
        assert!(told(&program).contains("No such file") && told(&program).contains("fortress.agent"));
        fs::write(&program, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(told(&program).contains("permission denied"), "{}", told(&program));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Fortress::probe(&program, "i", "r").is_ok());
    }
}
