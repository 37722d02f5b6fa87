//! `message`: tells the agent of a running task something.

use clap::Args;
use protocol::{Code, TaskId, task};

use crate::{
    context::Context,
    failure::{Exit, Failure},
    terminal::{note, say},
    typed_text, wait,
};

#[derive(Debug, Args)]
pub(crate) struct Message {
    /// The task, which runs.
    id: TaskId,
    /// What its agent is to be told; `-` reads it from stdin.
    #[arg(value_name = "TEXT|-")]
    text: String,
}

pub(crate) async fn run(context: &Context, command: Message) -> Result<Exit, Failure> {
    let (client, id) = (context.client()?, command.id);
    let text = typed_text::or_stdin(command.text, "message")?;
    let message = task::Message { text, id: Some(uuid::Uuid::now_v7()) };
    let accepted = wait::for_answer(async || client.message(&id, &message).await).await.map_err(|error| {
        let remedy = format!(
            "only the agent of a running task hears; how it stands: code-workers poll {id}; to go on from the \
             result of one that has ended: code-workers send --base code-workers/{id}"
        );
        Failure::refused(error, Code::WrongState, &remedy)
    })?;
    say(&format!("{id}: message {} waits until the agent's present turn is over", accepted.seq))?;
    note(&format!("when the agent has it, `code-workers logs -f {id}` shows it as << {}", accepted.seq));
    Ok(Exit::Succeeded)
}
