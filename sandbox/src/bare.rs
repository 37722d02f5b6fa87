//! No sandbox: the same program on the bare host, with nothing in between. For a machine that is a sandbox itself.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::process::{self, Line, Process};
use crate::start::{Files, StartError};

/// The variable that names the folder below which the policy's inside paths are.
const ROOT: &str = "CODE_WORKERS_SANDBOX_ROOT";

/// The host itself, as a plain user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bare {}

/// What runs there would be root.
#[derive(Debug, thiserror::Error)]
#[error(
    "--sandbox none is refused to root: an agent would be root of this machine; run it as a plain user whose files it \
     may have, or with --sandbox gvisor"
)]
pub struct BareError;

/// A policy on the bare host: a folder in which the paths that it names lead to the host's, and what is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BarePlan {
    /// Folders to make, open to their owner alone.
    pub folders: Vec<PathBuf>,
    /// Links to make, each with what it leads to.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// What is run: the host's own file, since its place may not hold a link to itself.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
}

impl Bare {
    /// Asks who we are.
    ///
    /// # Errors
    /// For root.
    pub fn probe() -> Result<Self, BareError> {
        if rustix::process::geteuid().is_root() { Err(BareError) } else { Ok(Self {}) }
    }

    /// All that is not held, one plain sentence each.
    pub fn warnings(&self) -> Vec<String> {
        [
            "there is no sandbox: what the agent runs is this user, on this machine",
            "it can read, change and remove all of this user's files, the owner's key and the tokens of workers among \
             them, and so send tasks itself and spend",
            "it can reach the network and every program of this user",
            "nothing limits its memory, its processes or the disk that it fills; the sandbox.*_mb settings are not held",
            "what changes its environment and leaves its worker's reach may outlive the task when the worker is killed",
        ]
        .map(str::to_owned)
        .into()
    }
}

/// Renders a policy below `root`. Pure.
#[must_use]
pub fn bare_plan(policy: &Policy, root: &Path) -> BarePlan {
    let mounts = || policy.read_only_mounts().chain(&policy.shared);
    let program = mounts().find(|mount| mount.inside == policy.program);
    let mut environment = policy.environment.clone();
    environment.push((ROOT.to_owned(), root.to_string_lossy().into_owned()));
    BarePlan {
        folders: vec![policy.work.inside.below(root), root.join("tmp")],
        links: mounts().map(|mount| (mount.inside.below(root), mount.host.as_path().to_owned())).collect(),
        program: program.map_or(policy.program.as_path(), |mount| mount.host.as_path()).to_owned(),
        arguments: policy.arguments.clone(),
        environment,
    }
}

/// Makes the folder of links and starts the program.
pub(crate) fn start(policy: &Policy, folder: &Path) -> Result<Process, StartError> {
    let plan = bare_plan(policy, &Files(folder).root());
    build(folder, &plan).map_err(|why| StartError::Prepare { folder: folder.to_owned(), why })?;
    let environment =
        plan.environment.into_iter().map(|(name, value)| (name, OsString::from(value))).collect();
    process::start(&Line { program: plan.program, arguments: plan.arguments, environment }, folder)
}

fn build(folder: &Path, plan: &BarePlan) -> io::Result<()> {
    let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    make(folder)?;
    plan.folders.iter().try_for_each(|path| make(path))?;
    plan.links.iter().try_for_each(|(link, target)| {
        fs::metadata(target)?;
        link.parent().map_or(Ok(()), make)?;
        symlink(target, link)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::policy;

    #[test]
    fn a_policy_on_the_bare_host_is_a_folder_of_links() {
        let policy = Policy { root: crate::Root::OfRuntime, ..policy() };
        insta::assert_json_snapshot!(bare_plan(&policy, Path::new("/run/me/sandbox/root")));
    }
}
