//! What can be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use protocol::{QueueName, TaskId};

use crate::commands::{
    apply::Apply, approve::Approve, budget::Budget, cancel::Cancel, die_with_parent::DieWithParent,
    doctor::Doctor, drain::Drain, image::ImageCommand, keys::KeysCommand, list::List, logs::Logs,
    message::Message, poll::Poll, queue::Queue, repo::RepoCommand, retry::Retry, run_worker::RunWorker,
    send::Send,
};

/// Give a coding agent a task, and get back a branch that you can review.
#[derive(Debug, Parser)]
#[command(name = "code-workers", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "\
Exit codes: 0 succeeded, 1 failed or lost, 2 usage, 3 timed out, 4 cancelled, 5 coordinator not reachable,
6 refused, 7 not finished yet, 64 bad configuration.")]
pub(crate) struct CommandLine {
    /// The configuration file, instead of ~/.config/code-workers/config.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One for each file of `commands/`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the coordinator and the gateway, and keep them running until Ctrl-C.
    Up,
    /// Check everything that a task needs, and say what to do about what is amiss.
    Doctor(Doctor),
    /// Say which repositories tasks can be sent to.
    #[command(subcommand)]
    Repo(RepoCommand),
    /// Say which root file systems sandboxes can be given instead of the host's toolchain.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Keep sandboxes waiting for the tasks of a repository, until Ctrl-C.
    RunWorker(RunWorker),
    /// Send a task.
    Send(Send),
    /// Say how a task stands.
    Poll(Poll),
    /// List tasks, newest first.
    List(List),
    /// Show what happened to a task, and what its agent did.
    Logs(Logs),
    /// Tell the agent of a running task something.
    Message(Message),
    /// Cancel tasks.
    Cancel(Cancel),
    /// Send a task that has ended once more, from the same base.
    Retry(Retry),
    /// Let tasks go that were sent with --approval.
    Approve(Approve),
    /// Print what a task changed, as a patch.
    Diff {
        /// The task.
        id: TaskId,
    },
    /// Put a task's branch into your repository. Nothing is checked out or merged.
    Apply(Apply),
    /// Say how the queues stand, or limit how much of one runs at once.
    Queue(Queue),
    /// Hand out no more tasks of a queue. What runs goes on.
    Pause {
        /// The queue, which is a repository's name.
        queue: QueueName,
    },
    /// Open a queue again that was paused or drained.
    Resume {
        /// The queue, which is a repository's name.
        queue: QueueName,
    },
    /// Take no new tasks into a queue, and let those that it has end.
    Drain(Drain),
    /// List, make, revoke and show the gateway's virtual keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Say what may be spent and what is, or set a limit: for a day, a repository's day, a task.
    Budget(Budget),
    #[command(hide = true)]
    DieWithParent(DieWithParent),
}

#[cfg(test)]
mod tests {
    use super::CommandLine;
    use clap::{CommandFactory, Parser};

    fn accepts(line: &[&str]) -> bool {
        CommandLine::try_parse_from(std::iter::once(&"code-workers").chain(line)).is_ok()
    }

    #[test]
    fn is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_is_in_the_documentation() {
        let documented = include_str!("../../docs/commands.md");
        for command in CommandLine::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let row = format!("| `{}", command.get_name());
            assert!(documented.contains(&row), "{row}");
        }
    }

    #[test]
    fn takes_what_people_type() {
        for line in [
            &["send", "r", "fix it"][..],
            &["send", "r", "-"],
            &["send", "--wait", "r", "--", "--help"],
            &["send", "r", "fix it", "--wait"],
            &["send", "--exec", "r", "--", "ls", "-l"],
            &["--config", "x.toml", "list"],
            &["list", "--state", "timed_out", "--config", "x.toml"],
            &["run-worker", "r", "--parallel", "2", "--once"],
            &["apply", "t", "--into", "/x"],
            &["cancel", "a", "b", "--grace", "60"],
            &["message", "t", "-"],
            &["message", "t", "--", "--help"],
            &["approve", "a", "b"],
            &["retry", "t", "--wait"],
            &["queue"],
            &["queue", "r", "--max-running", "0"],
            &["drain", "r", "--wait"],
            &["list", "--all"],
            &["image", "build", "n", "--file", "Dockerfile.worker", "."],
            &["image", "import", "n", "-"],
            &["image", "push-to-vm", "n:latest", "me@vm"],
            &["doctor"],
            &["doctor", "r", "--json"],
            &["doctor", "--attack", "--json"],
            &["keys", "list", "--json"],
            &[
                "keys",
                "mint",
                "mine",
                "--budget",
                "2.50",
                "--expires",
                "12h",
                "--model",
                "claude-*",
                "--model",
                "x",
            ],
            &["keys", "revoke", "t/1"],
            &["keys", "show", "mine", "--json"],
            &["budget"],
            &["budget", "--json"],
            &["budget", "set", "day", "50"],
            &["budget", "set", "repo", "r", "none"],
            &["budget", "set", "task", "t", "0.5"],
        ] {
            assert!(accepts(line), "{line:?}");
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for line in [
            &["send", "r"][..],
            &["send", "r", "x", "--priority", "x"],
            &["send", "r", "x", "--not-before", "soon"],
            &["list", "--state", "x"],
            &["list", "--all", "--limit", "1"],
            &["cancel"],
            &["cancel", "a/b"],
            &["cancel", "a", "--grace", "61"],
            &["message", "t"],
            &["approve"],
            &["queue", "--max-running", "1"],
            &["pause"],
            &["doctor", "r", "--attack"],
            &["keys"],
            &["keys", "mint", "mine"],
            &["keys", "mint", "a/b", "--budget", "1"],
            &["keys", "mint", "mine", "--budget", "1", "--concurrent", "0"],
            &["keys", "show", "t/x"],
            &["budget", "set", "day", "much"],
            &["budget", "set", "repo", "5"],
            &["nonsense"],
            &[],
        ] {
            assert!(!accepts(line), "{line:?}");
        }
    }
}
