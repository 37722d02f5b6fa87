//! Asks the daemon what it has, and starts one container to be sure.

use std::collections::HashMap;
use std::fs::{DirBuilder, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::net::UnixListener;

use super::{Docker, Joined, Network, client, container};
use crate::policy::{BadPath, HostPath, InsidePath, Limits, Mount, Policy, Root, SandboxId, Work};
use crate::start::Exit;

/// What is to stand in `/etc/docker/daemon.json`.
const DAEMON_JSON: &str =
    r#"{"runtimes": {"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--host-uds=open"]}}}"#;

/// Why no sandbox can be had through Docker.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// There is no client, or no daemon that answers it.
    #[error(
        "cannot ask Docker ({program}): {why}; install Docker, start its daemon, and let this user reach it"
    )]
    Away {
        /// The client.
        program: PathBuf,
        /// What it said.
        why: io::Error,
    },
    /// Nothing but gVisor will do.
    #[error(
        "Docker has no gVisor runtime {wanted:?} (it has: {found}), and without it nothing is started: put \
         {DAEMON_JSON} into /etc/docker/daemon.json and restart its daemon"
    )]
    NoRuntime {
        /// The runtime that was asked for.
        wanted: String,
        /// Those that are there.
        found: String,
    },
    /// What a container writes into a mounted folder would be root's, and out of reach.
    #[error(
        "this user is not root, and its Docker daemon is: the outbox of a sandbox would belong to root; run this as \
         root, or with a rootless Docker (https://docs.docker.com/engine/security/rootless/), or with --sandbox gvisor, \
         which needs neither"
    )]
    AnothersDaemon,
    /// It is never pulled: it is named by who asks, and nothing is fetched behind their back.
    #[error("Docker has no image {image:?} here: {why}; `docker image ls` lists those that it has")]
    NoImage {
        /// The image.
        image: String,
        /// What the client said.
        why: io::Error,
    },
    /// There is no such network.
    #[error("Docker has no network {name:?}: {why}; `docker network create --internal {name}` makes it")]
    NoNetwork {
        /// The network.
        name: String,
        /// What the client said.
        why: io::Error,
    },
    /// It leads out.
    #[error(
        "the network {name:?} is not internal, so a sandbox on it could reach everything that this machine can: make one \
         with `docker network create --internal`"
    )]
    OpenNetwork {
        /// The network.
        name: String,
    },
    /// A trial container did not reach its door.
    #[error(
        "a container under the runtime {runtime:?} cannot connect to a unix socket that is mounted into it ({reason}), \
         so it would have no doors: put {DAEMON_JSON} into /etc/docker/daemon.json (--host-uds=open is what matters) \
         and restart its daemon"
    )]
    NoDoors {
        /// The runtime.
        runtime: String,
        /// What the container said.
        reason: String,
    },
    /// The trial container did not start.
    #[error("Docker cannot start a container of {image:?} under the runtime {runtime:?}: {reason}")]
    CannotStart {
        /// The image.
        image: String,
        /// The runtime.
        runtime: String,
        /// What Docker said.
        reason: String,
    },
    /// The scratch folder or the program to knock with is none.
    #[error("cannot try out Docker there: {0}")]
    Path(#[from] BadPath),
    /// The trial could not be prepared or cleared away.
    #[error("cannot try out Docker: {0}")]
    Trial(#[from] io::Error),
}

/// A static program on the host that connects to the unix socket that is its last argument, and exits 0 when it
/// could.
#[derive(Clone, Debug)]
pub struct Knock {
    /// The program.
    pub program: PathBuf,
    /// What stands before the socket's path.
    pub arguments: Vec<String>,
}

/// What `docker info` says; what else it says is of no interest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(default)]
    runtimes: HashMap<String, RuntimeInfo>,
    #[serde(default)]
    security_options: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeInfo {
    path: String,
    runtime_args: Option<Vec<String>>,
    runtime_type: String,
}

impl Docker {
    /// Asks the daemon behind `program` for `runtime` and `image`, and starts and ends one container in `scratch`,
    /// an existing folder of the caller's, which has to reach a door there.
    ///
    /// # Errors
    /// [`DockerError`], with what to do.
    pub async fn probe(
        program: &Path,
        runtime: &str,
        image: &str,
        knock: &Knock,
        scratch: &Path,
    ) -> Result<Self, DockerError> {
        let away = |why| DockerError::Away { program: program.into(), why };
        let info = client::ask(program, ["info", "--format", "{{json .}}"]).await.map_err(away)?;
        let info: Info = serde_json::from_str(&info).map_err(|error| away(error.into()))?;
        let without_cgroups = check(&info, runtime, rustix::process::geteuid().is_root())?;
        let there = client::ask(program, ["image", "inspect", "--format", "{{.Id}}", image]).await;
        there.map_err(|why| DockerError::NoImage { image: image.to_owned(), why })?;
        let docker = Self {
            program: program.into(),
            runtime: runtime.into(),
            image: image.into(),
            without_cgroups,
            network: Network::None,
        };
        docker.try_out(knock, scratch).await?;
        Ok(docker)
    }

    /// The same Docker with its sandboxes on a network, which must be an internal one.
    ///
    /// # Errors
    /// When it is not, or not there.
    pub async fn join(self, joined: Joined) -> Result<Self, DockerError> {
        let name = joined.name.clone();
        let question = ["network", "inspect", "--format", "{{.Internal}}", &name];
        let internal = match client::ask(&self.program, question).await {
            Ok(internal) => internal,
            Err(why) => return Err(DockerError::NoNetwork { name, why }),
        };
        if internal.trim() != "true" {
            return Err(DockerError::OpenNetwork { name });
        }
        Ok(Self { network: Network::Joined(joined), ..self })
    }

    async fn try_out(&self, knock: &Knock, scratch: &Path) -> Result<(), DockerError> {
        let doors = scratch.join("doors");
        DirBuilder::new().mode(0o755).create(&doors)?;
        set_permissions(&doors, Permissions::from_mode(0o755))?;
        let door = UnixListener::bind(doors.join("knock.sock"))?;
        set_permissions(doors.join("knock.sock"), Permissions::from_mode(0o666))?;
        let policy = trial(knock, &doors, scratch)?;
        let tried = self.knock(&policy, &scratch.join("container")).await;
        drop(door);
        container::destroy(self, &policy.id).await?;
        tried
    }

    async fn knock(&self, policy: &Policy, folder: &Path) -> Result<(), DockerError> {
        let cannot_start = |reason| DockerError::CannotStart {
            image: self.image.clone(),
            runtime: self.runtime.clone(),
            reason,
        };
        let started = container::start(policy, self, folder).await;
        let mut container = started.map_err(|error| cannot_start(error.to_string()))?;
        match container.wait().await? {
            Exit::Code(0) => Ok(()),
            other => {
                let said = crate::start::last_line(folder).unwrap_or_else(|| format!("{other:?}"));
                Err(DockerError::NoDoors { runtime: self.runtime.clone(), reason: said })
            }
        }
    }
}

/// Whether the runtime that was asked for leaves cgroups alone; an error where it is no gVisor, or where this user
/// could not read what a sandbox leaves.
fn check(info: &Info, wanted: &str, root: bool) -> Result<bool, DockerError> {
    let runtime = info.runtimes.get(wanted).filter(|runtime| runtime.is_gvisor()).ok_or_else(|| {
        let mut found: Vec<_> = info.runtimes.keys().cloned().collect();
        found.sort();
        DockerError::NoRuntime { wanted: wanted.to_owned(), found: found.join(", ") }
    })?;
    let rootless =
        info.security_options.iter().any(|option| option.split(',').any(|part| part == "name=rootless"));
    if !root && !rootless {
        return Err(DockerError::AnothersDaemon);
    }
    let arguments = runtime.runtime_args.as_deref().unwrap_or_default();
    Ok(arguments.iter().any(|argument| argument.trim_start_matches('-') == "ignore-cgroups"))
}

impl RuntimeInfo {
    /// By the name of its program: `runsc`, `runsc-2024`, or containerd's shim for it.
    fn is_gvisor(&self) -> bool {
        let program = Path::new(&self.path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        program.contains("runsc") || self.runtime_type.contains("runsc")
    }
}

/// The smallest container that uses its door.
fn trial(knock: &Knock, doors: &Path, scratch: &Path) -> Result<Policy, DockerError> {
    let program = InsidePath::try_from("/run/knock")?;
    let mount = |host: &Path, inside: &InsidePath| {
        Ok::<_, DockerError>(Mount {
            host: HostPath::try_from(host.canonicalize()?)?,
            inside: inside.clone(),
        })
    };
    let mut arguments = knock.arguments.clone();
    arguments.push("/run/doors/knock.sock".to_owned());
    Ok(Policy {
        id: SandboxId::try_from(format!("trial-{}-{}", std::process::id(), nonce()))?,
        root: Root::OfRuntime,
        read_only: vec![mount(&knock.program, &program)?],
        shared: vec![mount(doors, &InsidePath::try_from("/run/doors")?)?],
        work: Work {
            inside: InsidePath::try_from("/work")?,
            bytes: 1 << 20,
            owner: 0,
            store: HostPath::try_from(scratch.to_owned())?,
        },
        tmp_bytes: 1 << 20,
        limits: Limits {
            memory_bytes: 512 << 20,
            cpu_millis: 1000,
            processes: 16,
            open_files: 64,
            file_bytes: 1 << 20,
        },
        hostname: "trial".to_owned(),
        users: Vec::new(),
        loopback_names: Vec::new(),
        program,
        arguments,
        environment: Vec::new(),
    })
}

/// The daemon may serve several machines' worth of process numbers: containers of the host's, of a VM's.
fn nonce() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> Info {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn only_a_runtime_that_is_gvisor_will_do() {
        let has = info(
            r#"{"Runtimes": {"runc": {"path": "runc"}, "lie": {"path": "/usr/bin/runc"},
                "runsc": {"path": "/opt/runsc-2024", "runtimeArgs": ["--host-uds=open"]},
                "few": {"path": "runsc", "runtimeArgs": ["--ignore-cgroups"]},
                "shim": {"runtimeType": "io.containerd.runsc.v1"}}}"#,
        );
        assert!(!check(&has, "runsc", true).unwrap());
        assert!(check(&has, "few", true).unwrap());
        assert!(!check(&has, "shim", true).unwrap());
        for wanted in ["runc", "lie", "not-there"] {
            let refused = check(&has, wanted, true).unwrap_err().to_string();
            assert!(
                refused.contains("few, lie, runc, runsc, shim") && refused.contains("daemon.json"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_plain_user_needs_a_daemon_of_its_own() {
        let with = |options: &str| {
            info(&format!(
                r#"{{"Runtimes": {{"runsc": {{"path": "runsc"}}}}, "SecurityOptions": {options}}}"#
            ))
        };
        let others = with(r#"["name=seccomp,profile=default"]"#);
        assert!(matches!(check(&others, "runsc", false), Err(DockerError::AnothersDaemon)));
        assert!(check(&others, "runsc", true).is_ok());
        assert!(check(&with(r#"["name=seccomp", "name=rootless"]"#), "runsc", false).is_ok());
    }
}
