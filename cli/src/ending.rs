//! Seeing a task to its end, for a person or a script that waits.

use protocol::{Task, TaskId, client::OwnerClient};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    failure::{Exit, Failure},
    task_lines,
    terminal::{clean_for_people, note, say},
    wait,
};

/// Ctrl-C, from now on. Listened for before anyone can read that there is something to interrupt.
pub(crate) fn interrupts() -> Result<Signal, Failure> {
    signal(SignalKind::interrupt())
        .map_err(|error| Failure::new(Exit::Failed, format!("signals cannot be watched: {error}")))
}

/// Waits for the task's end, tells what came of it, and ends with its code; on Ctrl-C says how to go on.
pub(crate) async fn see(client: &OwnerClient, id: &TaskId) -> Result<Exit, Failure> {
    let mut interrupt = interrupts()?;
    note(&format!("{id} is sent; what happens: code-workers logs -f {id}"));
    tokio::select! {
        ended = wait::until_ended(client, id) => tell(&ended.inspect_err(|_| go_on(id))?),
        _ = interrupt.recv() => {
            go_on(id);
            Ok(Exit::NotFinished)
        }
    }
}

fn go_on(id: &TaskId) {
    note(&format!(
        "{id} goes on without this command.\n\
         how it stands: code-workers poll {id}; to end it: code-workers cancel {id}"
    ));
}

/// The last words to stdout, all else to stderr, so that the output of an `exec` task can be piped.
fn tell(task: &Task) -> Result<Exit, Failure> {
    if let Some(words) = task_lines::last_words(task) {
        say(&clean_for_people(words))?;
    }
    note(task_lines::status(task).trim_end());
    if task.result.as_ref().is_some_and(|result| result.head.is_some()) {
        note(&format!("to see it: code-workers diff {0}; to take it: code-workers apply {0}", task.id));
    }
    Ok(task.state.into())
}
