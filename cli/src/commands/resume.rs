//! `resume`: opens a queue again that was paused or drained.

use protocol::{QueueName, queue::QueueMode};

use super::queue::set_mode;
use crate::{
    context::Context,
    failure::{Exit, Failure},
};

pub(crate) async fn run(context: &Context, queue: &QueueName) -> Result<Exit, Failure> {
    set_mode(&context.client()?, queue, QueueMode::Open).await?;
    Ok(Exit::Succeeded)
}
