//! `logs`: what happened to a task.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use jiff::Timestamp;
use protocol::{Event, EventBody, TaskId, client::OwnerClient};

use crate::{
    context::Context,
    event_lines,
    failure::{Exit, Failure},
    terminal::say,
    wait::{self, Patience},
};

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The task.
    id: TaskId,
    /// Go on until the task has ended.
    #[arg(short, long)]
    follow: bool,
    /// Print each event as JSON, one a line.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(context: &Context, command: &Logs) -> Result<Exit, Failure> {
    let (client, id) = (context.client()?, &command.id);
    let mut shown = Shown { json: command.json, last: 0, ended: false, start: None };
    if !command.follow {
        shown.stream(&client, id, false).await??;
        return Ok(Exit::Succeeded);
    }
    let mut patience = Patience::short();
    loop {
        // What has ended before its events are asked for has no more to come.
        let ended = match client.task(id, Duration::ZERO).await {
            Ok(task) => {
                patience.restore();
                task.state.is_terminal()
            }
            Err(error) => {
                patience.bear(error).await?;
                continue;
            }
        };
        let before = shown.last;
        match shown.stream(&client, id, true).await? {
            Err(error) => patience.bear(error).await?,
            Ok(()) if shown.ended || (ended && shown.last == before) => return Ok(Exit::Succeeded),
            // The coordinator is being stopped.
            Ok(()) => wait::pause().await,
        }
    }
}

/// How far the stream was shown.
struct Shown {
    json: bool,
    last: u64,
    ended: bool,
    start: Option<Timestamp>,
}

impl Shown {
    /// Shows events until the stream ends.
    async fn stream(
        &mut self,
        client: &OwnerClient,
        id: &TaskId,
        follow: bool,
    ) -> Result<Result<(), protocol::client::ClientError>, Failure> {
        let mut events = match client.events(id, self.last, follow).await {
            Ok(events) => events,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            match events.next().await {
                Some(Ok(event)) => self.show(&event)?,
                Some(Err(error)) => return Ok(Err(error)),
                None => return Ok(Ok(())),
            }
        }
    }

    fn show(&mut self, event: &Event) -> Result<(), Failure> {
        self.last = event.seq;
        self.ended |= matches!(&event.event.body, EventBody::State { state, .. } if state.is_terminal());
        let start = *self.start.get_or_insert(event.event.at);
        if self.json {
            say(&serde_json::to_string(event).map_err(std::io::Error::from)?)?;
        } else if let Some(lines) = event_lines::lines(event, start) {
            say(&lines)?;
        }
        Ok(())
    }
}
