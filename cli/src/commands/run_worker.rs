//! `run-worker`: becomes the launcher.

use std::{ffi::OsString, os::unix::process::CommandExt, path::Path, process::Command};

use clap::Args;

use crate::{
    failure::{Exit, Failure},
    programs,
};

/// The launcher's program.
const LAUNCHER: &str = "code-workers-launcher";

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct RunWorker {
    /// The repository, and the launcher's options (see `code-workers run-worker --help`).
    #[arg(value_name = "REPO [OPTIONS]", trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(config: Option<&Path>, command: &RunWorker) -> Result<Exit, Failure> {
    let launcher = programs::find(LAUNCHER)?;
    let config = config.into_iter().flat_map(|file| [OsString::from("--config"), file.into()]);
    // Comes back only with an error.
    let error = Command::new(&launcher).args(config).args(&command.arguments).exec();
    Err(Failure::new(Exit::Failed, format!("{} cannot be started: {error}", launcher.display())))
}
