//! `pause`: hands out no more tasks of a queue.

use protocol::{QueueName, queue::QueueMode};

use super::queue::set_mode;
use crate::{
    context::Context,
    failure::{Exit, Failure},
};

pub(crate) async fn run(context: &Context, queue: &QueueName) -> Result<Exit, Failure> {
    set_mode(&context.client()?, queue, QueueMode::Paused).await?;
    Ok(Exit::Succeeded)
}
