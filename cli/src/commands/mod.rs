//! One command a file.

use std::path::Path;

use protocol::TaskId;

use crate::{
    command_line::{Command, CommandLine},
    context::Context,
    failure::{Exit, Failure},
    terminal::note,
};

pub(crate) mod apply;
pub(crate) mod approve;
pub(crate) mod budget;
pub(crate) mod cancel;
pub(crate) mod die_with_parent;
mod diff;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod image;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod message;
mod pause;
pub(crate) mod poll;
pub(crate) mod queue;
pub(crate) mod repo;
mod resume;
pub(crate) mod retry;
pub(crate) mod run_worker;
pub(crate) mod send;
mod up;

/// Does what was typed.
pub(crate) async fn run(line: CommandLine) -> Result<Exit, Failure> {
    let config = line.config.as_deref();
    match line.command {
        Command::Up => up::run(config).await,
        Command::Doctor(command) => doctor::run(config, &command).await,
        Command::Repo(command) => repo::run(&context(config)?, command).await,
        Command::Image(command) => image::run(&context(config)?, command),
        Command::RunWorker(command) => run_worker::run(config, &command),
        Command::Send(command) => send::run(&context(config)?, command).await,
        Command::Poll(command) => poll::run(&context(config)?, &command).await,
        Command::List(command) => list::run(&context(config)?, command).await,
        Command::Logs(command) => logs::run(&context(config)?, &command).await,
        Command::Message(command) => message::run(&context(config)?, command).await,
        Command::Cancel(command) => cancel::run(&context(config)?, &command).await,
        Command::Retry(command) => retry::run(&context(config)?, &command).await,
        Command::Approve(command) => approve::run(&context(config)?, &command).await,
        Command::Diff { id } => diff::run(&context(config)?, &id).await,
        Command::Apply(command) => apply::run(&context(config)?, &command).await,
        Command::Queue(command) => queue::run(&context(config)?, command).await,
        Command::Keys(command) => keys::run(&context(config)?, command).await,
        Command::Budget(command) => budget::run(&context(config)?, command).await,
        Command::Pause { queue } => pause::run(&context(config)?, &queue).await,
        Command::Resume { queue } => resume::run(&context(config)?, &queue).await,
        Command::Drain(command) => drain::run(&context(config)?, &command).await,
        Command::DieWithParent(command) => die_with_parent::run(&command),
    }
}

fn context(config: Option<&Path>) -> Result<Context, Failure> {
    Context::read(config)
}

/// Does the same for each, in turn, and says what failed. Goes on to the next where the coordinator answers, and
/// ends with the highest exit code.
async fn each(ids: &[TaskId], act: impl AsyncFn(&TaskId) -> Result<(), Failure>) -> Result<Exit, Failure> {
    let mut worst = Exit::Succeeded;
    for (done, id) in ids.iter().enumerate() {
        let Err(failure) = act(id).await else { continue };
        let exit = failure.tell();
        if exit.code() > worst.code() {
            worst = exit;
        }
        let left = ids.get(done + 1..).unwrap_or_default();
        if exit == Exit::Unreachable && !left.is_empty() {
            let left: Vec<&str> = left.iter().map(TaskId::as_str).collect();
            note(&format!("not tried: {}", left.join(" ")));
            break;
        }
    }
    Ok(worst)
}
