//! A program that is ended when its parent is gone, however that ended: `up` starts its servers through
//! this, so that not even `kill -9` of it leaves them behind.

use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::failure::{Exit, Failure};

#[derive(Debug, Args)]
pub(crate) struct DieWithParent {
    /// The parent's process id.
    parent: i32,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Sets what outlives `exec` (`prctl(2)`, `PR_SET_PDEATHSIG`), and becomes the program.
pub(crate) fn run(command: &DieWithParent) -> Result<Exit, Failure> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::new(Exit::Failed, format!("prctl: {error}")))?;
    // It may have died before we asked.
    if getppid() != Pid::from_raw(command.parent) {
        return Ok(Exit::Failed);
    }
    let Some((program, arguments)) = command.command.split_first() else { return Ok(Exit::Usage) };
    let error = Command::new(program).args(arguments).exec();
    Err(Failure::new(Exit::Failed, format!("{} cannot be started: {error}", program.display())))
}
