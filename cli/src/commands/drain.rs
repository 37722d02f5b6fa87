//! `drain`: takes no new tasks into a queue, and lets those that it has come to their end.

use clap::Args;
use protocol::{QueueName, client::OwnerClient, queue::QueueMode};

use super::queue::{set_mode, the_one};
use crate::{
    context::Context,
    ending::interrupts,
    failure::{Exit, Failure},
    queue_lines,
    terminal::{note, say},
    wait::{self, Patience},
};

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The queue, which is a repository's name.
    queue: QueueName,
    /// Wait until no task is unfinished, and say how many are left.
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(context: &Context, command: &Drain) -> Result<Exit, Failure> {
    let (client, queue) = (context.client()?, &command.queue);
    if !command.wait {
        set_mode(&client, queue, QueueMode::Draining).await?;
        return Ok(Exit::Succeeded);
    }
    let mut interrupt = interrupts()?;
    let left = set_mode(&client, queue, QueueMode::Draining).await?.depth.unfinished();
    tokio::select! {
        ended = until_empty(&client, queue, left) => ended.map(|()| Exit::Succeeded),
        _ = interrupt.recv() => {
            note(&format!("{queue} goes on draining.\nto take tasks in again: code-workers resume {queue}"));
            Ok(Exit::NotFinished)
        }
    }
}

/// Waits until nothing of the queue is unfinished, and says each time that another count than `told` is left.
async fn until_empty(client: &OwnerClient, queue: &QueueName, mut told: u64) -> Result<(), Failure> {
    let mut patience = Patience::long();
    while told > 0 {
        wait::pause().await;
        let queues = match client.queues().await {
            Ok(queues) => queues,
            Err(error) => {
                patience.bear(error).await?;
                continue;
            }
        };
        patience.restore();
        let status = the_one(queues, queue)?;
        if status.mode != QueueMode::Draining {
            let text = format!(
                "{queue} does not drain any more: it was set to {}\nto drain it: code-workers drain {queue}",
                status.mode
            );
            return Err(Failure::new(Exit::Failed, text));
        }
        let left = status.depth.unfinished();
        if left != told {
            say(&format!("{queue}: {}", queue_lines::unfinished(&status.depth)))?;
            told = left;
        }
    }
    Ok(())
}
