//! `list`: tasks, newest first.

use clap::{Args, builder::PossibleValuesParser};
use jiff::Timestamp;
use protocol::{
    QueueName, TaskState,
    task::{TaskFilter, TaskPage},
};

use crate::{
    context::Context,
    failure::{Exit, Failure},
    task_lines,
    terminal::say,
};

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this repository's.
    #[arg(long, value_name = "REPO")]
    queue: Option<QueueName>,
    /// Only those in this state.
    #[arg(long, value_parser = states())]
    state: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// All that there are.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Print the tasks as JSON, one a line.
    #[arg(long)]
    json: bool,
}

fn states() -> PossibleValuesParser {
    PossibleValuesParser::new(TaskState::ALL.iter().map(|state| state.as_str()))
}

pub(crate) async fn run(context: &Context, command: List) -> Result<Exit, Failure> {
    let client = context.client()?;
    let state = TaskState::ALL.iter().find(|state| command.state.as_deref() == Some(state.as_str()));
    let mut left = if command.all { u64::MAX } else { u64::from(command.limit) };
    let mut filter = TaskFilter { queue: command.queue, state: state.copied(), ..TaskFilter::default() };
    while left > 0 {
        filter.limit = Some(u32::try_from(left).unwrap_or(u32::MAX).min(protocol::limits::PAGE_ROWS));
        let TaskPage { tasks, next } = client.tasks(&filter).await?;
        for task in &tasks {
            if command.json {
                say(&serde_json::to_string(task).map_err(std::io::Error::from)?)?;
            } else {
                say(&task_lines::row(task, Timestamp::now()))?;
            }
        }
        left = left.saturating_sub(u64::try_from(tasks.len()).unwrap_or(left));
        if next.is_none() || tasks.is_empty() {
            break;
        }
        filter.before = next;
    }
    Ok(Exit::Succeeded)
}
