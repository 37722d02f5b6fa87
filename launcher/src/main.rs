//! `code-workers-launcher`: keeps sandboxes waiting for a queue, and delivers what a dead one left.

mod attend;
mod caches;
mod deliver;
mod events;
mod finish;
mod folder;
mod keeper;
mod launcher;
mod lines;
mod outbox;
mod policy;
mod pool;
mod relays;
mod report;
mod settings;
mod shutdown;
mod signals;
mod start;
mod step;
mod tell;
#[cfg(test)]
mod test_door;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use protocol::ids::{AgentName, QueueName};
use protocol::settings::EXIT_BAD_CONFIGURATION;
use tracing_subscriber::EnvFilter;

/// Keeps sandboxes waiting for the tasks of a queue. Each takes one task and is thrown away.
#[derive(Parser)]
#[command(name = "code-workers-launcher", version)]
struct Arguments {
    /// The queue, which bears its repository's name
    #[arg(required_unless_present_any = ["keep", "probe"])]
    queue: Option<QueueName>,
    /// How many sandboxes there are at once, waiting or at work
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
    /// Take one task, and end when it has ended
    #[arg(long, conflicts_with = "parallel")]
    once: bool,
    /// The agent of tasks that name none
    #[arg(long)]
    agent: Option<AgentName>,
    /// How sandboxes are stood up [default: sandbox.kind of the configuration, else gvisor]
    #[arg(long, value_enum)]
    sandbox: Option<settings::KindName>,
    /// The root file system of sandboxes: one that `code-workers image` took in, or with Docker one of Docker's, which
    /// is never pulled
    #[arg(long)]
    image: Option<String>,
    /// The internal network that sandboxes in Docker join; without it each has its own loopback alone
    #[arg(long)]
    network: Option<String>,
    /// The configuration file
    #[arg(long)]
    config: Option<PathBuf>,
    /// Keep the one sandbox whose folder this is (used by the launcher itself)
    #[arg(long, hide = true, conflicts_with_all = ["queue", "parallel", "once", "agent"])]
    keep: Option<PathBuf>,

    /// Start one sandbox that does nothing, and say in JSON what can be had here (used by `code-workers doctor`)
    #[arg(long, hide = true, conflicts_with_all = ["queue", "parallel", "once", "keep"])]
    probe: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { EXIT_BAD_CONFIGURATION.into() } else { ExitCode::SUCCESS };
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    let code = match (arguments.keep, arguments.queue) {
        (Some(folder), _) => keeper::run(&folder, arguments.config.as_deref()).await,
        (None, Some(queue)) => {
            let wish = settings::Wish {
                queue,
                parallel: if arguments.once { 1 } else { arguments.parallel.into() },
                once: arguments.once,
                agent: arguments.agent,
                sandbox: arguments.sandbox,
                image: arguments.image,
                network: arguments.network,
            };
            launcher::run(wish, arguments.config).await
        }
        (None, None) => report::run(arguments.config).await,
    };
    code.into()
}
