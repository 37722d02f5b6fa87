//! `poll`: how a task stands, now.

use std::time::Duration;

use clap::Args;
use protocol::TaskId;

use crate::{
    context::Context,
    failure::{Exit, Failure},
    task_lines,
    terminal::{clean_for_people, say},
};

#[derive(Debug, Args)]
pub(crate) struct Poll {
    /// The task.
    id: TaskId,
    /// Print the task as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(context: &Context, command: &Poll) -> Result<Exit, Failure> {
    let task = context.client()?.task(&command.id, Duration::ZERO).await?;
    if command.json {
        say(&serde_json::to_string(&task).map_err(std::io::Error::from)?)?;
    } else {
        say(task_lines::status(&task).trim_end())?;
        if let Some(words) = task_lines::last_words(&task) {
            say(&format!("\n{}", clean_for_people(words)))?;
        }
    }
    Ok(task.state.into())
}
