//! `send`: makes a task, and waits for its end where that is wanted.

use std::{io::Read, time::Duration};

use clap::Args;
use protocol::{
    Task, TaskId, Usd,
    client::ClientError,
    limits,
    submit::{Kind, NewTask},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    context::Context,
    failure::{Exit, Failure},
    task_lines,
    terminal::{clean_for_people, note, say},
    wait,
};

#[derive(Debug, Args)]
#[command(override_usage = "code-workers send [OPTIONS] REPO PROMPT|-\n       \
                            code-workers send --exec [OPTIONS] REPO -- PROGRAM [ARGUMENT]...")]
pub(crate) struct Send {
    /// Wait for the end, print the agent's last words, and exit with the task's code.
    #[arg(long)]
    wait: bool,
    /// The task's id. The same command with the same id makes no second task.
    #[arg(long)]
    id: Option<String>,
    /// Which agent, instead of the default one.
    #[arg(long)]
    agent: Option<String>,
    /// Which model, as PROVIDER/MODEL, instead of the agent's default one.
    #[arg(long)]
    model: Option<String>,
    /// Where to start: a branch, a tag, a commit, or code-workers/TASK for another task's result.
    #[arg(long)]
    base: Option<String>,
    /// What the task may spend, such as 2.50.
    #[arg(long, value_name = "USD")]
    budget: Option<Usd>,
    /// How many seconds an attempt may run.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Run a program in the sandbox instead of an agent.
    #[arg(long)]
    exec: bool,
    /// The repository.
    repo: String,
    /// What the agent is to do; `-` reads it from stdin. With --exec: the program and its arguments.
    #[arg(required = true, value_name = "PROMPT|-")]
    words: Vec<String>,
}

impl Send {
    /// The task, with an id of its own, so that repeating the request is safe.
    fn into_task(self) -> Result<NewTask, Failure> {
        let (kind, prompt, argv) = if self.exec {
            (Kind::Exec, None, Some(self.words))
        } else {
            (Kind::Agent, Some(prompt(self.words)?), None)
        };
        Ok(NewTask {
            id: Some(self.id.unwrap_or_else(|| TaskId::generate().to_string())),
            queue: self.repo,
            kind,
            prompt,
            agent: self.agent,
            model: self.model,
            argv,
            base: self.base,
            timeout_s: self.timeout,
            budget_usd: self.budget,
            ..NewTask::default()
        })
    }
}

fn prompt(words: Vec<String>) -> Result<String, Failure> {
    let usage = |text: &str| Failure::new(Exit::Usage, text);
    let [word] = <[String; 1]>::try_from(words).map_err(|_| {
        usage("the prompt is more than one argument\nput it in quotes: send REPO 'fix the test'")
    })?;
    if word != "-" {
        return Ok(word);
    }
    let mut read = Vec::new();
    let most = limits::BODY_BYTES as u64;
    std::io::stdin()
        .lock()
        .take(most)
        .read_to_end(&mut read)
        .map_err(|error| usage(&format!("the prompt cannot be read from stdin: {error}")))?;
    String::from_utf8(read).map_err(|_| usage("the prompt on stdin is not UTF-8, or has no end"))
}

pub(crate) async fn run(context: &Context, command: Send) -> Result<Exit, Failure> {
    let client = context.client()?;
    let (waits, own_id) = (command.wait, command.id.is_some());
    let task = command.into_task()?;
    let sent = client.submit(&task, Duration::ZERO).await;
    let id = match (sent, task.id) {
        (Ok(task), _) => task.id,
        (Err(error), Some(id)) if error.is_passing() && !own_id && !never_sent(&error) => {
            note(&format!("If it was taken nevertheless, --id {id} makes no second one."));
            return Err(error.into());
        }
        (Err(error), _) => return Err(error.into()),
    };
    if !waits {
        say(id.as_str())?;
        return Ok(Exit::Succeeded);
    }
    // Listened for before anyone can read that there is something to interrupt.
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| Failure::new(Exit::Failed, format!("signals cannot be watched: {error}")))?;
    note(&format!("{id} is sent; what happens: code-workers logs -f {id}"));
    tokio::select! {
        ended = wait::until_ended(&client, &id) => tell(&ended.inspect_err(|_| go_on(&id))?),
        _ = interrupt.recv() => {
            go_on(&id);
            Ok(Exit::NotFinished)
        }
    }
}

/// Whether nobody even took the connection, so that no answer can be lost.
fn never_sent(error: &ClientError) -> bool {
    let refused = |why: &str| why.starts_with("Connection refused") || why.starts_with("No such file");
    matches!(error, ClientError::Unreachable { why, .. } if refused(why))
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

#[cfg(test)]
mod tests {
    use super::Send;
    use crate::failure::Failure;
    use clap::Parser;
    use protocol::submit::{Kind, NewTask};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        send: Send,
    }

    fn task(line: &[&str]) -> Result<NewTask, Failure> {
        Line::try_parse_from(std::iter::once(&"send").chain(line)).unwrap().send.into_task()
    }

    #[test]
    fn a_prompt_is_one_argument_and_an_exec_task_takes_them_all() {
        let agent = task(&["sample", "it's \"x\" $HOME \\ \n é", "--budget", "0.5", "--id", "t"]).unwrap();
        assert_eq!(agent.prompt.as_deref(), Some("it's \"x\" $HOME \\ \n é"));
        assert_eq!((agent.id.as_deref(), agent.kind), (Some("t"), Kind::Agent));
        assert_eq!(agent.budget_usd.unwrap().to_string(), "0.50");
        assert!(task(&["sample", "fix", "it"]).is_err());

        let exec = task(&["--exec", "sample", "--", "ls", "-l", "--wait"]).unwrap();
        assert_eq!(exec.argv.unwrap(), ["ls", "-l", "--wait"]);
        assert_eq!((exec.kind, exec.prompt), (Kind::Exec, None));
    }

    #[test]
    fn a_task_without_an_id_gets_one() {
        let ids = [task(&["r", "p"]), task(&["r", "p"])].map(|task| task.unwrap().id.unwrap());
        assert!(ids[0].starts_with("task-"));
        assert_ne!(ids[0], ids[1]);
    }
}
