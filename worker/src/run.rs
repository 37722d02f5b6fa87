//! The agent's process, from its start until nothing of it is left.

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::Signal;
use std::process::Stdio;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin},
    task::JoinSet,
};

use crate::{
    agent_user,
    control::{Stop, Stopper},
    launch::Launch,
    output::{Output, Stream},
    places::Places,
};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// It was stopped.
    Stopped(Stop),
}

/// How long the pipes may stay open when all who could write to them are gone.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the agent's own process may take to be gone when it was killed.
const WAIT: Duration = Duration::from_secs(30);

/// An agent's process that runs.
pub struct Running<'a> {
    child: Child,
    places: &'a Places,
    launch: &'a Launch,
}

/// Starts it.
///
/// # Errors
/// When the helper cannot be started.
pub fn start<'a>(places: &'a Places, launch: &'a Launch) -> io::Result<Running<'a>> {
    let mut argv = launch.argv.iter();
    let mut command = agent_user::command(places, argv.next().map(String::as_str).unwrap_or_default());
    command.args(argv).envs(&launch.env).stdout(Stdio::piped()).stderr(Stdio::piped());
    if launch.stdin.is_some() {
        command.stdin(Stdio::piped());
    }
    Ok(Running { child: command.spawn()?, places, launch })
}

impl Running<'_> {
    /// Waits for its end, or until the stopper speaks: SIGTERM, the grace, SIGKILL. Either way nothing of the
    /// agent's user is left running, and the output is read to its end.
    ///
    /// # Errors
    /// When the system does not tell how it ended.
    pub async fn end(self, output: &Output, stopper: &Stopper) -> io::Result<Ended> {
        let Self { mut child, places, launch } = self;
        output.read_as(launch.reading.clone());
        let mut pipes = JoinSet::new();
        if let (Some(stdin), Some(prompt)) = (child.stdin.take(), launch.stdin.clone()) {
            pipes.spawn(write_prompt(stdin, prompt));
        }
        if let Some(pipe) = child.stdout.take() {
            let output = output.clone();
            pipes.spawn(async move { output.read(Stream::Stdout, pipe).await });
        }
        if let Some(pipe) = child.stderr.take() {
            let output = output.clone();
            pipes.spawn(async move { output.read(Stream::Stderr, pipe).await });
        }
        let ended = tokio::select! {
            // First, since whoever stops it may have ended it already.
            biased;
            why = stopper.stopped() => {
                terminate(places, &mut child, why, stopper, output).await;
                Ended::Stopped(why)
            }
            status = child.wait() => Ended::Exited(status?),
        };
        end_all(places, &mut child, output).await;
        let drained = async { while pipes.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            output.note("the end of the output is missing: its pipe stayed open");
            pipes.shutdown().await;
        }
        Ok(ended)
    }
}

async fn write_prompt(mut stdin: ChildStdin, prompt: String) -> io::Result<()> {
    // An agent that does not read it all has its reasons.
    stdin.write_all(prompt.as_bytes()).await?;
    stdin.shutdown().await
}

/// SIGTERM to all that the agent started, and time to end by itself, unless there is none any more.
async fn terminate(places: &Places, child: &mut Child, why: Stop, stopper: &Stopper, output: &Output) {
    if stopper.is_at_once() {
        return;
    }
    let gone = async {
        let (signalled, _) = tokio::join!(agent_user::signal_all(places, Signal::TERM), child.wait());
        signalled
    };
    tokio::select! {
        gone = tokio::time::timeout(why.grace(), gone) => {
            if let Ok(Err(error)) = gone {
                output.note(&format!("SIGTERM could not be sent: {error}"));
            }
        }
        () = stopper.at_once() => {}
    }
}

/// SIGKILL to all that is left: also what has a session of its own, and what a normal end left behind. Comes to an
/// end whatever the processes do, so that the results are taken.
async fn end_all(places: &Places, child: &mut Child, output: &Output) {
    // As user 0: this one cannot be kept from ending. It may have ended already.
    let _ = child.start_kill();
    // Both at once: a process that nobody waits for stays in the list of processes.
    let waited = tokio::time::timeout(WAIT, child.wait());
    let (killed, waited) = tokio::join!(agent_user::end_all(places), waited);
    if let Err(error) = killed {
        output.error(&format!("not all of the agent's processes could be ended: {error}"));
    }
    if waited.is_err() {
        output.error("the agent's process did not end when it was killed");
    }
}
