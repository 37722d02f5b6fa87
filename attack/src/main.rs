//! `code-workers-attack`: tries, from inside a sandbox, every way out that is known, and tells which held.
//!
//! `host` makes a place of its own (folders, keys, coordinator, gateway, launcher) and has the attacks run there as a
//! task, so that the attacker is exactly what an agent is. `inside` is what that task runs. The other modes serve
//! the weakened runs, which show that each attack can succeed.

mod attack;
mod host;
mod http;
mod inside;
mod line;
mod target;
mod weaken;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "code-workers-attack", version, about = "Tries every known way out of a sandbox")]
struct CommandLine {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Attacks the sandboxes of this machine, in a place made for it
    Host(host::HostArguments),
    /// Names every attack
    List,
    /// In a sandbox: tries what the orders (JSON) name
    #[command(hide = true)]
    Inside { orders: String },
    /// In a weakened sandbox: tries it beside the worker, as its user
    #[command(hide = true)]
    Beside,
    /// Takes a line of the policy away, then becomes runsc
    #[command(hide = true)]
    Weaken(weaken::WeakenArguments),
    /// Answers in a namespace of its own
    #[command(hide = true)]
    Serve {
        /// A socket without a file, too
        #[arg(long)]
        abstract_socket: Option<String>,
        /// What processes of one kernel share, by this key
        #[arg(long)]
        shared: Option<i32>,
        ports: Vec<u16>,
    },
}

fn main() -> ExitCode {
    let done = match CommandLine::parse().mode {
        Mode::Host(arguments) => host::run(&arguments),
        Mode::List => host::list(),
        Mode::Inside { orders } => inside::run(&orders).map(|()| ExitCode::SUCCESS),
        Mode::Beside => inside::beside().map(|()| ExitCode::SUCCESS),
        Mode::Weaken(arguments) => weaken::run(arguments).map(|()| ExitCode::SUCCESS),
        Mode::Serve { abstract_socket, shared, ports } => {
            weaken::serve(abstract_socket.as_deref(), shared, &ports).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        host::complain(&format!("code-workers-attack: {error:#}"));
        ExitCode::FAILURE
    })
}
