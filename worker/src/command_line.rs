//! The modes of the program.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What runs inside a sandbox. Started by its launcher as `init`; the other modes are started by `init` and
/// `work`.
#[derive(Debug, Parser)]
#[command(name = "code-workers-worker", version)]
pub struct CommandLine {
    /// Which of its modes.
    #[command(subcommand)]
    pub mode: Mode,
}

/// One program, several modes.
#[derive(Debug, Subcommand)]
pub enum Mode {
    /// PID 1: starts the relays and the worker, reaps, forwards SIGTERM, exits as the worker does
    Init,
    /// Leases one task, does it, reports, exits
    Work,
    /// In a container that another's launcher starts: leases task after task. REPO_NAME, FORTRESS_API_KEY and
    /// OPENCODE_API_KEY say for which queue, and by which keys
    Fortress {
        /// It was executed anew with a clean environment, and is told the rest on standard input
        #[arg(long, hide = true, value_name = "PART")]
        part: Option<Part>,
    },
    /// Becomes another user with no capability left, then runs a program
    AsUser {
        /// Who to become
        #[command(flatten)]
        user: User,
        /// The program and its arguments
        #[arg(required = true, last = true, value_name = "PROGRAM")]
        command: Vec<OsString>,
    },
    /// Signals every process of a user, whatever session it has made for itself
    KillUser {
        /// Whose processes
        #[command(flatten)]
        user: User,
        /// The signal's number; 9 is repeated until no process is left
        #[arg(long, value_name = "N", default_value_t = 9)]
        signal: i32,
    },
    /// Connects to a unix socket: exits 0 when it could. So a launcher finds out whether doors can be reached
    Knock {
        /// The socket
        socket: PathBuf,
    },
    /// Writes how many files that process of this user has open which has most
    CountOpen,
    /// Writes how many files and folders are below a folder
    CountFiles {
        /// The folder
        folder: PathBuf,
        /// Where counting ends
        #[arg(long, value_name = "N")]
        most: u64,
    },
    /// Removes everything of a user's that is in these folders
    Sweep {
        /// Whose files
        #[command(flatten)]
        user: User,
        /// Files and folders that stay
        #[arg(long, value_name = "PATH")]
        but: Vec<PathBuf>,
        /// The folders
        folders: Vec<PathBuf>,
    },
    /// Writes the regular files below a folder to standard output, each after a line of JSON with name and size
    ListFiles {
        /// The folder
        folder: PathBuf,
    },
}

/// The processes of the mode `fortress` after its first.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Part {
    /// The one that takes in orphans.
    Init,
    /// The worker.
    Work,
}

/// A user and its group.
#[derive(Debug, Clone, Copy, Args)]
pub struct User {
    /// Its uid, never 0
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub uid: u32,
    /// Its gid, never 0
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub gid: u32,
}
