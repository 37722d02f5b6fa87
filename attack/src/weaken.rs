//! Stands in for runsc, takes one line of the policy away, and becomes the real runsc. Told to by the host mode
//! alone, through `sandbox.runsc` of a place that is made for it and thrown away after it.

mod netns;

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use clap::Args;
use protocol::inside::WORKER_CONFIG;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{inside::BESIDE, line::Line};
pub(crate) use netns::serve;

/// What the host mode tells this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Weakening {
    pub(crate) line: Line,
    /// The real runsc.
    pub(crate) runsc: PathBuf,
    /// This program, as a file that a sandbox may be given.
    pub(crate) program: PathBuf,
    /// A home folder with marks.
    pub(crate) home: PathBuf,
    /// A key that nobody inside may see.
    pub(crate) key: String,
    /// Ports of the host's loopback.
    pub(crate) loopback: Vec<u16>,
}

/// `weaken FILE -- RUNSC'S ARGUMENTS`
#[derive(Debug, Args)]
pub(crate) struct WeakenArguments {
    /// A [`Weakening`]
    file: PathBuf,
    /// What runsc was to be told
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Where this program stands in a weakened sandbox.
const PROGRAM_INSIDE: &str = "/opt/attack/code-workers-attack";

/// What an attacker has use for, beside those that the worker has.
const CAPABILITIES: [&str; 18] = [
    "CHOWN",
    "KILL",
    "SETGID",
    "SETUID",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "MKNOD",
    "NET_ADMIN",
    "NET_RAW",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
];

/// Does not return, but with an error.
pub(crate) fn run(wish: WeakenArguments) -> anyhow::Result<()> {
    let weakening: Weakening = serde_json::from_slice(&fs::read(&wish.file)?)?;
    let mut arguments = wish.arguments;
    let bundle =
        arguments.iter().position(|argument| argument == "--bundle").and_then(|at| arguments.get(at + 1));
    let trial = arguments.last().is_some_and(|id| id.to_string_lossy().starts_with("trial-"));
    if let Some(bundle) = bundle.map(PathBuf::from).filter(|_| !trial) {
        let path = bundle.join("config.json");
        let mut spec = serde_json::from_slice(&fs::read(&path)?)?;
        edit(&mut spec, &weakening).with_context(|| format!("{} is not as it was", path.display()))?;
        fs::write(&path, serde_json::to_vec_pretty(&spec)?)?;
        around(&weakening, &spec, &mut arguments)?;
    }
    Err(Command::new(&weakening.runsc).args(arguments).exec().into())
}

/// Takes the line out of the document.
fn edit(spec: &mut Value, weakening: &Weakening) -> Option<()> {
    match weakening.line {
        Line::NoHome => bind(spec, &weakening.home, &weakening.home.to_string_lossy())?,
        Line::CleanEnvironment => {
            let key = format!("ANTHROPIC_API_KEY={}", weakening.key);
            spec["process"]["env"].as_array_mut()?.push(key.into());
        }
        Line::AgentUser | Line::Capabilities => {
            if weakening.line == Line::Capabilities {
                for set in ["bounding", "effective", "permitted"] {
                    spec["process"]["capabilities"][set] =
                        CAPABILITIES.map(|name| format!("CAP_{name}")).into();
                }
            }
            bind(spec, &weakening.program, PROGRAM_INSIDE)?;
            let init = spec["process"]["args"].as_array()?.clone();
            let both = format!(
                "{PROGRAM_INSIDE} beside & while [ ! -S {BESIDE} ]; do sleep 0.02; done; exec \"$@\""
            );
            let shell = ["/bin/sh", "-c", &both, "sh"].map(Value::from);
            spec["process"]["args"] = shell.into_iter().chain(init).collect();
        }
        // runsc would make another namespace.
        Line::Network => {
            let namespaces = spec["linux"]["namespaces"].as_array_mut()?;
            namespaces.retain(|namespace| namespace["type"] != "network");
        }
        Line::ConfigMode => {}
    }
    Some(())
}

fn bind(spec: &mut Value, host: &Path, inside: &str) -> Option<()> {
    let mount = json!({ "destination": inside, "type": "bind", "source": host, "options": ["rbind", "ro"] });
    spec["mounts"].as_array_mut()?.push(mount);
    Some(())
}

/// Takes the line away from what is around the document: runsc's flags, the host's folders.
fn around(weakening: &Weakening, spec: &Value, arguments: &mut Vec<OsString>) -> anyhow::Result<()> {
    match weakening.line {
        Line::Network => {
            arguments.retain(|argument| argument != "--network=none");
            arguments.insert(0, "--network=host".into());
            netns::enter(weakening)?;
        }
        Line::ConfigMode => {
            let folder = source(spec, Path::new(WORKER_CONFIG).parent().unwrap_or(Path::new("/")))
                .context("the worker's configuration is not mounted")?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
            for file in fs::read_dir(&folder)? {
                fs::set_permissions(file?.path(), fs::Permissions::from_mode(0o644))?;
            }
        }
        Line::NoHome | Line::CleanEnvironment | Line::AgentUser | Line::Capabilities => {}
    }
    if let Some(root) = spec["root"]["path"].as_str() {
        make_mount_points(Path::new(root), spec)?;
    }
    Ok(())
}

/// The host folder that is mounted there.
fn source(spec: &Value, inside: &Path) -> Option<PathBuf> {
    let mounts = spec["mounts"].as_array()?;
    let mount = mounts
        .iter()
        .find(|mount| mount["destination"].as_str().is_some_and(|to| Path::new(to) == inside))?;
    mount["source"].as_str().map(PathBuf::from)
}

/// The root folder holds a point for each mount; so it has to for ours.
fn make_mount_points(root: &Path, spec: &Value) -> anyhow::Result<()> {
    for mount in spec["mounts"].as_array().into_iter().flatten().filter(|mount| mount["type"] == "bind") {
        let (Some(inside), Some(host)) = (mount["destination"].as_str(), mount["source"].as_str()) else {
            continue;
        };
        let point = root.join(inside.trim_start_matches('/'));
        if point.symlink_metadata().is_ok() || inside.starts_with("/tmp/") {
            continue;
        }
        if Path::new(host).is_dir() {
            fs::create_dir_all(&point)?;
        } else {
            fs::create_dir_all(point.parent().unwrap_or(root))?;
            fs::write(&point, "")?;
        }
    }
    Ok(())
}
