//! `send`: makes a task, and waits for its end where that is wanted.

use std::time::Duration;

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use jiff::Timestamp;
use protocol::{
    TaskId, Usd,
    submit::{Kind, NewTask},
    task::Priority,
};

use crate::{
    context::Context,
    ending,
    failure::{Exit, Failure},
    start_time,
    terminal::{note, say},
    typed_text, wait,
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
    /// Before or after which others it comes.
    #[arg(long, default_value = "normal", value_parser = priorities())]
    priority: Priority,
    /// Start it no earlier: at a time such as 2030-01-31T18:00:00Z, or after a duration such as 2h.
    #[arg(long, value_name = "TIME", value_parser = start_time)]
    not_before: Option<Timestamp>,
    /// Refuse it while another task of the repository with this key has not ended.
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,
    /// Hold it until `code-workers approve`.
    #[arg(long)]
    approval: bool,
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
            priority: self.priority,
            not_before: self.not_before,
            unique_key: self.unique,
            approval: self.approval,
            ..NewTask::default()
        })
    }
}

fn prompt(words: Vec<String>) -> Result<String, Failure> {
    let usage = |text: &str| Failure::new(Exit::Usage, text);
    let [word] = <[String; 1]>::try_from(words).map_err(|_| {
        usage("the prompt is more than one argument\nput it in quotes: send REPO 'fix the test'")
    })?;
    typed_text::or_stdin(word, "prompt")
}

fn priorities() -> impl TypedValueParser<Value = Priority> {
    let names = PossibleValuesParser::new(["critical", "high", "normal", "low"]);
    names.try_map(|name| serde_json::from_value(serde_json::Value::String(name)))
}

pub(super) fn start_time(text: &str) -> Result<Timestamp, String> {
    start_time::parse(text, Timestamp::now())
}

pub(crate) async fn run(context: &Context, command: Send) -> Result<Exit, Failure> {
    let client = context.client()?;
    let (waits, own_id) = (command.wait, command.id.is_some());
    let task = command.into_task()?;
    let sent = client.submit(&task, Duration::ZERO).await;
    let id = match (sent, task.id) {
        (Ok(task), _) => task.id,
        (Err(error), Some(id)) if !own_id && wait::may_have_acted(&error) => {
            note(&format!("If it was taken nevertheless, --id {id} makes no second one."));
            return Err(error.into());
        }
        (Err(error), _) => return Err(error.into()),
    };
    if task.approval {
        note(&format!("to let it go: code-workers approve {id}"));
    }
    if !waits {
        say(id.as_str())?;
        return Ok(Exit::Succeeded);
    }
    ending::see(&client, &id).await
}

#[cfg(test)]
mod tests {
    use super::Send;
    use crate::failure::Failure;
    use clap::Parser;
    use protocol::{
        submit::{Kind, NewTask},
        task::Priority,
    };

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
    fn when_and_whether_a_task_runs_is_said_with_it() {
        let plain = task(&["r", "p"]).unwrap();
        assert_eq!((plain.priority, plain.not_before, plain.approval), (Priority::Normal, None, false));
        for (name, wanted) in [
            ("critical", Priority::Critical),
            ("high", Priority::High),
            ("normal", Priority::Normal),
            ("low", Priority::Low),
        ] {
            assert_eq!(task(&["r", "p", "--priority", name]).unwrap().priority, wanted);
        }
        let time = "2030-01-31T18:00:00Z";
        let held = task(&["--not-before", time, "--unique", "nightly", "--approval", "r", "p"]).unwrap();
        assert_eq!(held.not_before, Some(time.parse().unwrap()));
        assert_eq!((held.unique_key.as_deref(), held.approval), (Some("nightly"), true));
        let soon = task(&["--not-before", "2h", "r", "p"]).unwrap().not_before.unwrap();
        assert!(soon > jiff::Timestamp::now(), "{soon}");
    }

    #[test]
    fn a_task_without_an_id_gets_one() {
        let ids = [task(&["r", "p"]), task(&["r", "p"])].map(|task| task.unwrap().id.unwrap());
        assert!(ids[0].starts_with("task-"));
        assert_ne!(ids[0], ids[1]);
    }
}
