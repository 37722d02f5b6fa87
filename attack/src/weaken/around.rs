//! What is around the document: runsc's flags, the host's folders, the mount points.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use protocol::inside::{AGENT_PROGRAMS, BIN, DOORS, MIRROR, OUTBOX, WORKER_CONFIG};
use serde_json::Value;

use super::{Weakening, netns};
use crate::line::Line;

/// Takes the line away from it.
pub(super) fn prepare(
    weakening: &Weakening,
    spec: &Value,
    arguments: &mut Vec<OsString>,
) -> anyhow::Result<()> {
    let root = spec["root"]["path"].as_str().map(PathBuf::from).context("the document names no root")?;
    match weakening.line {
        Line::Network => {
            arguments.retain(|argument| argument != "--network=none");
            arguments.insert(0, "--network=host".into());
            netns::enter(weakening)?;
        }
        Line::Capabilities => arguments.insert(0, "--net-raw".into()),
        Line::FolderModes => {
            let config = source(spec, Path::new(WORKER_CONFIG).parent().unwrap_or(Path::new("/")))?;
            open_to_all(&config.join("worker.json"), 0o666)?;
            for folder in [config, source(spec, Path::new(DOORS))?, source(spec, Path::new(OUTBOX))?] {
                open_to_all(&folder, 0o777)?;
            }
        }
        Line::Memory | Line::WorkFiles | Line::Output => {
            let file = source(spec, Path::new(WORKER_CONFIG).parent().unwrap_or(Path::new("/")))?
                .join("worker.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
            config["limits"] = match weakening.line {
                Line::Output => serde_json::json!({ "output_bytes": u64::MAX }),
                _ => serde_json::json!({}),
            };
            fs::write(&file, serde_json::to_vec(&config)?)?;
        }
        Line::ReadOnly => {
            for folder in [root.clone(), root.join(BIN.trim_start_matches('/'))] {
                open_to_all(&folder, 0o777)?;
            }
            open_to_all(&root.join("etc/passwd"), 0o666)?;
            for inside in [MIRROR, AGENT_PROGRAMS] {
                open_to_all(&source(spec, Path::new(inside))?, 0o777)?;
            }
        }
        Line::CleanMirror => {
            let config = source(spec, Path::new(MIRROR))?.join("config");
            let address = format!("https://somebody:{}@localhost/", weakening.key);
            writeln!(
                OpenOptions::new().append(true).open(config)?,
                "[remote \"origin\"]\n\turl = {address}"
            )?;
        }
        _ => {}
    }
    make_mount_points(&root, spec)
}

fn open_to_all(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(|| path.display().to_string())
}

/// The host folder that is mounted there.
fn source(spec: &Value, inside: &Path) -> anyhow::Result<PathBuf> {
    let is_there = |mount: &&Value| mount["destination"].as_str().is_some_and(|to| Path::new(to) == inside);
    let mount = spec["mounts"].as_array().into_iter().flatten().find(is_there);
    let source = mount.and_then(|mount| mount["source"].as_str());
    source.map(PathBuf::from).with_context(|| format!("nothing is mounted at {}", inside.display()))
}

/// The root folder holds a point for each mount; so it has to for ours. (Below a mount, runsc makes them.)
fn make_mount_points(root: &Path, spec: &Value) -> anyhow::Result<()> {
    for mount in spec["mounts"].as_array().into_iter().flatten().filter(|mount| mount["type"] == "bind") {
        let (Some(inside), Some(host)) = (mount["destination"].as_str(), mount["source"].as_str()) else {
            continue;
        };
        let point = root.join(inside.trim_start_matches('/'));
        if point.symlink_metadata().is_ok() || ["/tmp/", "/usr/"].iter().any(|top| inside.starts_with(top)) {
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
