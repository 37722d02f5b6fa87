//! The worker in a container that another's launcher starts, such as an AI Fortress: its keys come in the
//! environment, nobody waits for what it leaves behind, and it takes task after task.
//!
//! Three processes of this program, one after the other: the first gives what it was told to the second through a
//! pipe, executing itself anew with a clean environment; the second ([`Part::Init`]) takes in orphans and starts the
//! third ([`Part::Work`]), the one that reads the pipe.

mod told;
mod work;

use std::{
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::{Command, ExitCode, Stdio},
};

use rustix::process::{getpid, set_child_subreaper};

use crate::{
    command_line::Part,
    exit::Exit,
    init::{start_log, supervise},
    places::PATH,
    privileges,
};
use told::Told;

/// The mode `fortress`.
#[must_use]
pub fn main(part: Option<Part>) -> ExitCode {
    start_log();
    privileges::hide_memory();
    match part {
        None => clean_up_and_go_on(),
        Some(Part::Init) => init(),
        Some(Part::Work) => work::main().into(),
    }
}

/// Leaves the environment behind, which others could read at `/proc/1/environ`.
fn clean_up_and_go_on() -> ExitCode {
    let told = match Told::from_env(|name| std::env::var(name).ok()) {
        Ok(told) => told,
        Err(faults) => {
            faults.iter().for_each(|fault| tracing::error!("{fault}"));
            return Exit::BadConfiguration.into();
        }
    };
    let error = match pipe_with(&told) {
        Ok(pipe) => again(Part::Init).map(|mut command| command.stdin(pipe).exec()),
        Err(error) => Err(error),
    };
    let error = error.unwrap_or_else(|error| error);
    tracing::error!("the worker cannot execute itself anew: {error}");
    Exit::Broken.into()
}

/// What is read from a pipe is nowhere any more.
fn pipe_with(told: &Told) -> io::Result<Stdio> {
    let (read, write): (OwnedFd, OwnedFd) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // It has room for all of it: `Told` has a limit.
    std::fs::File::from(write).write_all(&serde_json::to_vec(told)?)?;
    Ok(read.into())
}

fn again(part: Part) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let part = match part {
        Part::Init => "init",
        Part::Work => "work",
    };
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    command.args(["fortress", "--part", part]).env_clear().env("PATH", path);
    Ok(command)
}

fn init() -> ExitCode {
    // PID 1 takes in orphans anyway.
    if let Err(error) = set_child_subreaper(Some(getpid())) {
        tracing::info!("orphans go to PID 1: {error}");
    }
    privileges::keep_needed();
    let supervised = again(Part::Work).and_then(|worker| supervise(Vec::new(), worker));
    supervised.unwrap_or_else(|error| {
        tracing::error!("the worker cannot be started: {error}");
        Exit::Broken.into()
    })
}
