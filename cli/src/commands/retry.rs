//! `retry`: a new task that does what an ended one did, from the same base.

use clap::Args;
use protocol::{TaskId, task};

use crate::{
    context::Context,
    ending,
    failure::{Exit, Failure},
    terminal::{note, say},
    wait,
};

#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The task, which has ended.
    id: TaskId,
    /// Wait for the end, print the agent's last words, and exit with the new task's code.
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(context: &Context, command: &Retry) -> Result<Exit, Failure> {
    let client = context.client()?;
    let id = TaskId::generate();
    let how = task::Retry { id: Some(id.clone()) };
    let tried = wait::for_answer(async || client.retry(&command.id, &how).await).await;
    tried.inspect_err(|error| {
        if wait::may_have_acted(error) {
            note(&format!("If it was taken nevertheless, the new task is there: code-workers poll {id}"));
        }
    })?;
    if command.wait {
        return ending::see(&client, &id).await;
    }
    say(id.as_str())?;
    Ok(Exit::Succeeded)
}
