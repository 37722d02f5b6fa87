//! Stands in for runsc, takes one line of the policy away, and becomes the real runsc. Told to by the host mode
//! alone, through `sandbox.runsc` of a place that is made for it and thrown away after it.

mod around;
mod document;
mod netns;

use std::{ffi::OsString, fs, os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::line::Line;
pub(crate) use netns::serve;

/// What the host mode tells this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Weakening {
    pub(crate) line: Line,
    /// The real runsc.
    pub(crate) runsc: PathBuf,
    /// A home folder with marks.
    pub(crate) home: PathBuf,
    /// What stands in for parts of the host that no sandbox may be given, not even this one.
    pub(crate) stand_in: PathBuf,
    /// Doors without the line, where it is one of theirs.
    pub(crate) doors: PathBuf,
    /// `$run` of the host.
    pub(crate) run: PathBuf,
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
        let edited = document::edit(&mut spec, &weakening);
        edited.with_context(|| format!("{} has another form than it had", path.display()))?;
        fs::write(&path, serde_json::to_vec_pretty(&spec)?)?;
        around::prepare(&weakening, &spec, &mut arguments)?;
    }
    Err(Command::new(&weakening.runsc).args(arguments).exec().into())
}
