//! The last link: both doors, seen from inside a sandbox.

use std::time::Duration;

use protocol::{
    QueueName, Task, TaskState,
    client::ClientError,
    submit::{Kind, NewTask},
    task::Cancel,
};

use super::check::Check;
use crate::{context::Context, task_lines::last_words};

const NAME: &str = "doors, from inside";
/// A waiting sandbox needs under a second; a new one is made in a few.
const WITHIN: Duration = Duration::from_secs(45);
/// Knocks at both, over the relays inside; what each answers is its first line. Plain sh and bash's own /dev/tcp,
/// so that it runs in any image that has bash.
const SCRIPT: &str = r#"for door in skia:7222 authproxy:4000; do
if exec 3<>"/dev/tcp/${door%:*}/${door#*:}" && printf 'HEAD / HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3 && read -r -t 10 line <&3
then echo "$door: ${line%$'\r'}"; else echo "$door: no answer"; fi
done"#;

/// Sends an `exec` task, where a repository was named.
pub(super) async fn inside(context: &Context, repo: Option<&QueueName>, answers: bool) -> Check {
    match (repo, answers) {
        (None, _) => {
            Check::skipped(NAME, "name a repository, and a small task looks: code-workers doctor REPO")
        }
        (Some(_), false) => Check::skipped(NAME, "the coordinator does not take our tasks"),
        (Some(repo), true) => match send(context, repo).await {
            Ok(task) => judge(repo, &task),
            Err(error) => {
                Check::failed(NAME, error.to_string(), "register it: code-workers repo add NAME PATH")
            }
        },
    }
}

async fn send(context: &Context, repo: &QueueName) -> Result<Task, ClientError> {
    let unreachable = |why: String| ClientError::Unreachable { server: "the coordinator".to_owned(), why };
    let client = context.client().map_err(|_| unreachable("no key".to_owned()))?;
    let task = NewTask {
        queue: repo.to_string(),
        kind: Kind::Exec,
        argv: Some(["bash", "-c", SCRIPT].map(str::to_owned).into()),
        max_attempts: Some(1),
        ..NewTask::default()
    };
    let task = client.submit(&task, WITHIN).await?;
    if !task.state.is_terminal() {
        // Nobody takes it: it is not left behind. It may have just ended.
        let _ = client.cancel(&task.id, &Cancel::default()).await;
    }
    Ok(task)
}

fn judge(repo: &QueueName, task: &Task) -> Check {
    let words = last_words(task).unwrap_or_default();
    let line = |door: &str| words.lines().find_map(|line| line.strip_prefix(door)).unwrap_or_default();
    match task.state {
        TaskState::Succeeded => {
            let (coordinator, gateway) = (line("skia:7222: "), line("authproxy:4000: "));
            if !coordinator.contains(" 401") {
                let remedy = "it is the shim inside, the relay of its door, or the coordinator, in that order: \
                              the checks above say which; run-worker prints what a relay says";
                return Check::failed(NAME, format!("skia:7222: {coordinator}"), remedy);
            }
            if !gateway.contains(" 200") {
                let remedy = "it is the shim inside, the relay of its door, or the gateway, in that order";
                return Check::failed(NAME, format!("authproxy:4000: {gateway}"), remedy);
            }
            Check::ok(NAME, "skia:7222 is the coordinator, authproxy:4000 the gateway")
        }
        state if state.is_terminal() => {
            let why = task.reason.clone().unwrap_or_else(|| state.to_string());
            Check::failed(
                NAME,
                format!("the task ended as {state}: {why}"),
                format!("code-workers logs {}", task.id),
            )
        }
        state => Check::failed(
            NAME,
            format!("the task was still {state} after {} s, and is cancelled", WITHIN.as_secs()),
            format!(
                "start a worker: code-workers run-worker {repo}; code-workers queue shows whether it is paused"
            ),
        ),
    }
}
