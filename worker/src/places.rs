//! Where things are inside, in one value: the sandbox's own by `Places::of`.

use std::{
    io,
    path::{Path, PathBuf},
};

use protocol::inside;
use rustix::process::{Pid, getegid, geteuid, getpid};

use crate::{
    around::{self, Around},
    command_line::User,
};

/// Paths and users that the worker lives by.
#[derive(Debug, Clone)]
pub struct Places {
    /// This program, for its helper modes.
    pub helper: PathBuf,
    /// The agent's user.
    pub agent: User,
    /// The work tree; the agent's own, empty at the start.
    pub work: PathBuf,
    /// The repository's mirror, read-only.
    pub mirror: PathBuf,
    /// A folder in memory that does not exist yet, for what the worker writes: the agent's HOME is in it.
    pub scratch: PathBuf,
    /// What is written for the coordinator, until it has it.
    pub outbox: PathBuf,
    /// Whether somebody delivers the outbox when this worker is gone.
    pub heir: bool,
    /// How the agent's processes are known.
    pub reach: Reach,
    /// The agent's TMPDIR, where `/tmp` is not the sandbox's own.
    pub tmp: Option<PathBuf>,
    /// The folder of agent files.
    pub agent_files: PathBuf,
    /// The folder of installed agents.
    pub agent_programs: PathBuf,
    /// Folders of the toolchain's programs, `:` between them.
    pub path: String,
    /// Where agents find the gateway.
    pub gateway: String,
}

/// How the agent's processes are told from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// They are those of a user that is the agent's alone.
    User,
    /// They are those below a process, which takes in orphans: the agent's user is the worker's too.
    Below(Pid),
}

/// Where the toolchain's programs are, unless the sandbox's environment says otherwise.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Places {
    /// The places of a sandbox, and the PATH that its launcher gave to it. Where there is no sandbox the agent is this
    /// user, and what is below this process is the agent's.
    ///
    /// # Errors
    /// When the system does not tell where this program is.
    pub(crate) fn of(around: &Around) -> io::Result<Self> {
        let (agent, reach, tmp) = match around {
            Around::Sandbox | Around::Network(_) => {
                (User { uid: inside::AGENT_UID, gid: inside::AGENT_UID }, Reach::User, None)
            }
            Around::Nothing(_) => {
                let own = User { uid: geteuid().as_raw(), gid: getegid().as_raw() };
                (own, Reach::Below(getpid()), Some(around.path("/tmp")))
            }
        };
        Ok(Self {
            helper: std::env::current_exe()?,
            agent,
            work: around.path(inside::WORK),
            mirror: around.path(inside::MIRROR),
            scratch: around.path(Path::new(inside::HOME).parent().unwrap_or(Path::new("/tmp"))),
            outbox: around.path(inside::OUTBOX),
            heir: true,
            reach,
            tmp,
            agent_files: around.path(inside::AGENT_FILES),
            agent_programs: around.path(inside::AGENT_PROGRAMS),
            path: std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned()),
            gateway: std::env::var(around::GATEWAY).unwrap_or_else(|_| inside::GATEWAY_URL.to_owned()),
        })
    }

    /// The agent's HOME: in memory and outside of the work tree, so that neither the project's own tools nor a
    /// `git clean` of the agent's meets it.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.scratch.join("home")
    }

    /// The agent's XDG_CACHE_HOME: build caches can be large, so they are on disk; in `.git` because every tool
    /// that walks a work tree leaves that out.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.work.join(".git/cache")
    }

    /// A folder in memory where git makes the result when the agent's own repository is of no use.
    #[must_use]
    pub fn result(&self) -> PathBuf {
        self.scratch.join("result")
    }

    /// The git configuration of every git that the worker starts; the agent can read it and not change it.
    #[must_use]
    pub fn git_config(&self) -> PathBuf {
        self.scratch.join("gitconfig")
    }

    /// The prompt of the present turn, for agents that read it from a file. Not in HOME, where the agent could put a
    /// link in its way.
    #[must_use]
    pub fn prompt_file(&self) -> PathBuf {
        self.scratch.join("prompt.txt")
    }

    /// Files that the agent wants to hand over beside its branch.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.work.join(crate::git::ARTIFACTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_where_the_protocol_says() {
        assert_eq!(Places::of(&Around::Sandbox).unwrap().home(), Path::new(inside::HOME));
    }
}
