//! One command a file.

use std::path::Path;

use protocol::TaskId;

use crate::{
    command_line::{Command, CommandLine},
    context::Context,
    failure::{Exit, Failure},
};

pub(crate) mod apply;
mod cancel;
pub(crate) mod die_with_parent;
mod diff;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod poll;
pub(crate) mod repo;
pub(crate) mod run_worker;
pub(crate) mod send;
mod up;

/// Does what was typed.
pub(crate) async fn run(line: CommandLine) -> Result<Exit, Failure> {
    let config = line.config.as_deref();
    match line.command {
        Command::Up => up::run(config).await,
        Command::Repo(command) => repo::run(&context(config)?, command).await,
        Command::RunWorker(command) => run_worker::run(config, &command),
        Command::Send(command) => send::run(&context(config)?, command).await,
        Command::Poll(command) => poll::run(&context(config)?, &command).await,
        Command::List(command) => list::run(&context(config)?, command).await,
        Command::Logs(command) => logs::run(&context(config)?, &command).await,
        Command::Cancel { id } => cancel::run(&context(config)?, &id).await,
        Command::Diff { id } => diff::run(&context(config)?, &id).await,
        Command::Apply(command) => apply::run(&context(config)?, &command).await,
        Command::DieWithParent(command) => die_with_parent::run(&command),
    }
}

fn context(config: Option<&Path>) -> Result<Context, Failure> {
    Context::read(config)
}

/// A task's id as it was typed.
fn task_id(text: &str) -> Result<TaskId, Failure> {
    text.parse().map_err(|error| Failure::new(Exit::Usage, format!("{error}")))
}
