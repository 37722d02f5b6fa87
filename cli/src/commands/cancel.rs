//! `cancel`: ends a task early.

use super::task_id;
use crate::{
    context::Context,
    failure::{Exit, Failure},
    terminal::say,
};

pub(crate) async fn run(context: &Context, id: &str) -> Result<Exit, Failure> {
    let task = context.client()?.cancel(&task_id(id)?, &protocol::task::Cancel::default()).await?;
    if task.state.is_terminal() {
        say(&format!("{}: {}", task.id, task.state))?;
    } else {
        say(&format!("{}: its worker was told to stop, and brings back what there is", task.id))?;
    }
    Ok(Exit::Succeeded)
}
