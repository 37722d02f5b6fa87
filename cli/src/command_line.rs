//! What can be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::{
    apply::Apply, die_with_parent::DieWithParent, list::List, logs::Logs, poll::Poll, repo::RepoCommand,
    run_worker::RunWorker, send::Send,
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
    /// Say which repositories tasks can be sent to.
    #[command(subcommand)]
    Repo(RepoCommand),
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
    /// Cancel a task.
    Cancel {
        /// The task.
        id: String,
    },
    /// Print what a task changed, as a patch.
    Diff {
        /// The task.
        id: String,
    },
    /// Put a task's branch into your repository. Nothing is checked out or merged.
    Apply(Apply),
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
        ] {
            assert!(accepts(line), "{line:?}");
        }
        let refused = [&["send", "r"][..], &["list", "--state", "x"], &["nonsense"], &[]];
        for line in refused {
            assert!(!accepts(line), "{line:?}");
        }
    }
}
