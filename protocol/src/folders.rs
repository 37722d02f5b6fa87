//! Where things lie on the host. Nothing here touches the disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    ids::{ImageName, QueueName, TaskId, WorkerId},
    image::Digest,
};

/// The folders of one user's code-workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// `$XDG_CONFIG_HOME/code-workers`
    pub config: PathBuf,
    /// `$XDG_DATA_HOME/code-workers`
    pub data: PathBuf,
    /// `$XDG_RUNTIME_DIR/code-workers`, else `run` in the data folder. 0700.
    pub run: PathBuf,
}

/// Why the folders are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("HOME is not set to an absolute path, so the {0} folder is not known: set HOME, or {1}")]
pub struct NoHome(&'static str, &'static str);

impl Folders {
    /// From the environment, by the XDG base directory specification: a relative path counts as unset.
    ///
    /// # Errors
    /// [`NoHome`], where neither the XDG variable nor `HOME` says it.
    pub fn from_env(env: &BTreeMap<String, String>) -> Result<Self, NoHome> {
        let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let place = |what, variable: &'static str, under_home: &str| {
            absolute(variable)
                .or_else(|| absolute("HOME").map(|home| home.join(under_home)))
                .map(|base| base.join("code-workers"))
                .ok_or(NoHome(what, variable))
        };
        let data = place("data", "XDG_DATA_HOME", ".local/share")?;
        Ok(Self {
            config: place("configuration", "XDG_CONFIG_HOME", ".config")?,
            run: absolute("XDG_RUNTIME_DIR").map_or_else(|| data.join("run"), |run| run.join("code-workers")),
            data,
        })
    }

    /// The configuration file, unless `--config` names another.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The file of the owner's key, beside the configuration. 0600.
    #[must_use]
    pub fn env_file(&self) -> PathBuf {
        self.config.join(".env")
    }

    /// The coordinator's database.
    #[must_use]
    pub fn coordinator_db(&self) -> PathBuf {
        self.data.join("coordinator.db")
    }

    /// The gateway's database.
    #[must_use]
    pub fn gateway_db(&self) -> PathBuf {
        self.data.join("gateway.db")
    }

    /// The folder with one output file a task.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.data.join("output")
    }

    /// A task's artifacts.
    #[must_use]
    pub fn artifacts(&self, task: &TaskId) -> PathBuf {
        self.data.join("artifacts").join(task.as_str())
    }

    /// A repository's mirror.
    #[must_use]
    pub fn mirror(&self, repo: &QueueName) -> PathBuf {
        self.data.join("mirrors").join(format!("{repo}.git"))
    }

    /// The folder of bases as bundles, for workers that have no mirror. What is in it can be made again.
    #[must_use]
    pub fn bases(&self) -> PathBuf {
        self.data.join("bases")
    }

    /// A repository's part of [`Folders::bases`].
    #[must_use]
    pub fn bases_of(&self, repo: &QueueName) -> PathBuf {
        self.bases().join(repo.as_str())
    }

    /// Installed agent CLIs: one folder an agent.
    #[must_use]
    pub fn agents(&self) -> PathBuf {
        self.data.join("agents")
    }

    /// Root file systems: `NAME.json`, an [`crate::image::Image`] each, and a folder for each digest.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// What an image's name stands for.
    #[must_use]
    pub fn image(&self, name: &ImageName) -> PathBuf {
        self.images().join(format!("{name}.json"))
    }

    /// The unpacked root file system of a digest. Never changed, but for mount points.
    #[must_use]
    pub fn image_root(&self, digest: &Digest) -> PathBuf {
        self.images().join(digest.to_string()).join("root")
    }

    /// The owner's door.
    #[must_use]
    pub fn owner_socket(&self) -> PathBuf {
        self.run.join("owner.sock")
    }

    /// The workers' door.
    #[must_use]
    pub fn worker_socket(&self) -> PathBuf {
        self.run.join("worker.sock")
    }

    /// The gateway's door for agents.
    #[must_use]
    pub fn gateway_socket(&self) -> PathBuf {
        self.run.join("gateway.sock")
    }

    /// The gateway's door for the coordinator.
    #[must_use]
    pub fn gateway_admin_socket(&self) -> PathBuf {
        self.run.join("gateway-admin.sock")
    }

    /// The folder of all sandboxes. On disk, unlike the sockets: what a sandbox left and is not delivered yet must
    /// outlive a reboot, and may be larger than `$XDG_RUNTIME_DIR`.
    #[must_use]
    pub fn sandboxes(&self) -> PathBuf {
        self.data.join("run/sandboxes")
    }

    /// One sandbox's folder: `doors`, `outbox`, and what its launcher keeps there.
    #[must_use]
    pub fn sandbox(&self, worker: &WorkerId) -> PathBuf {
        self.sandboxes().join(worker.as_str())
    }
}

/// The folder that a program of ours finds its siblings in.
#[must_use]
pub fn beside(executable: &Path, program: &str) -> Option<PathBuf> {
    executable.parent().map(|folder| folder.join(program))
}

#[cfg(test)]
mod tests {
    use super::Folders;
    use std::{collections::BTreeMap, path::Path};

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn follows_xdg_and_falls_back_to_home() {
        let folders = Folders::from_env(&env(&[("HOME", "/h"), ("XDG_DATA_HOME", "relative")])).unwrap();
        assert_eq!(folders.data, Path::new("/h/.local/share/code-workers"));
        assert_eq!(folders.run, Path::new("/h/.local/share/code-workers/run"));
        let folders = Folders::from_env(&env(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")])).unwrap();
        assert_eq!(folders.run, Path::new("/r/code-workers"));
        assert_eq!(folders.sandboxes(), Path::new("/h/.local/share/code-workers/run/sandboxes"));
        assert!(Folders::from_env(&env(&[])).is_err());
    }
}
