//! `queue`: how queues stand, and how much of one may run at once.

use clap::Args;
use protocol::{
    QueueName,
    client::OwnerClient,
    queue::{ChangeQueue, QueueMode, QueueStatus},
};

use crate::{
    context::Context,
    failure::{Exit, Failure},
    queue_lines::{sentence, table},
    terminal::say,
};

#[derive(Debug, Args)]
pub(crate) struct Queue {
    /// Only this one, which is a repository's name.
    queue: Option<QueueName>,
    /// Let at most so many of its tasks run at once; 0 for as many as there are workers.
    #[arg(long, value_name = "N", requires = "queue")]
    max_running: Option<u32>,
}

pub(crate) async fn run(context: &Context, command: Queue) -> Result<Exit, Failure> {
    let client = context.client()?;
    match (command.queue, command.max_running) {
        (Some(queue), Some(limit)) => {
            let change = ChangeQueue { max_running: Some(limit), ..ChangeQueue::default() };
            say(&sentence(&client.change_queue(&queue, &change).await?))?;
        }
        (Some(queue), None) => say(&table(&[the_one(client.queues().await?, &queue)?]))?,
        (None, _) => say(&table(&client.queues().await?))?,
    }
    Ok(Exit::Succeeded)
}

/// Sets what a queue does with tasks, and says how it stands then.
pub(super) async fn set_mode(
    client: &OwnerClient,
    queue: &QueueName,
    mode: QueueMode,
) -> Result<QueueStatus, Failure> {
    let change = ChangeQueue { mode: Some(mode), ..ChangeQueue::default() };
    let status = client.change_queue(queue, &change).await?;
    say(&sentence(&status))?;
    Ok(status)
}

/// The queue of that name among all.
pub(super) fn the_one(queues: Vec<QueueStatus>, name: &QueueName) -> Result<QueueStatus, Failure> {
    queues.into_iter().find(|queue| queue.name == *name).ok_or_else(|| {
        Failure::new(
            Exit::Refused,
            format!("no repository {name} is registered\nthose that are: code-workers repo list"),
        )
    })
}
