//! `approve`: lets tasks go that were sent with `--approval`.

use clap::Args;
use protocol::{Code, TaskId, TaskState};

use super::each;
use crate::{
    context::Context,
    failure::{Exit, Failure},
    terminal::say,
};

#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// The tasks.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<TaskId>,
}

pub(crate) async fn run(context: &Context, command: &Approve) -> Result<Exit, Failure> {
    let client = context.client()?;
    each(&command.ids, async |id| {
        let task = client.approve(id).await.map_err(|error| {
            Failure::refused(error, Code::WrongState, "only a task sent with --approval waits for it")
        })?;
        let next = match task.state {
            TaskState::Held => "waits for its source".to_owned(),
            state => format!("is {state}"),
        };
        say(&format!("{id}: approved, and {next}"))?;
        Ok(())
    })
    .await
}
