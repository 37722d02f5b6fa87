//! `cancel`: ends tasks early.

use clap::Args;
use protocol::{Code, TaskId, limits};

use super::each;
use crate::{
    context::Context,
    failure::{Exit, Failure},
    terminal::say,
};

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The tasks.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<TaskId>,
    /// How many seconds a running agent has to end by itself, instead of 10.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=limits::KILL_GRACE_CAP.as_secs()))]
    grace: Option<u64>,
}

pub(crate) async fn run(context: &Context, command: &Cancel) -> Result<Exit, Failure> {
    let client = context.client()?;
    let how = protocol::task::Cancel { grace_s: command.grace };
    each(&command.ids, async |id| {
        let task = client.cancel(id, &how).await.map_err(|error| {
            let remedy = format!("it has ended, and stays so; what came of it: code-workers poll {id}");
            Failure::refused(error, Code::WrongState, &remedy)
        })?;
        if task.state.is_terminal() {
            say(&format!("{id}: {}", task.state))?;
        } else {
            say(&format!("{id}: its worker was told to stop, and brings back what there is"))?;
        }
        Ok(())
    })
    .await
}
