//! Measurements, one command each:
//! `cargo run --release -p bench -- NAME [--clients 1,16,64] [--seconds N] [--rounds N] [--json]`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark that cannot go on has nothing to say, and what it says is its output"
)]

mod api;
mod http;
mod load;
mod queue;
mod systems;
mod table;
mod task;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Measures code-workers.
#[derive(Debug, Parser)]
struct CommandLine {
    /// What to measure.
    #[arg(value_enum)]
    name: Name,
    /// How many clients at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    clients: Vec<usize>,
    /// Seconds of one turn.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rounds; in each, every system has one turn. What is told is their median.
    #[arg(long)]
    rounds: Option<usize>,
    /// A line of JSON a row, instead of a table.
    #[arg(long)]
    json: bool,
}

/// The benchmarks.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Name {
    /// One recorded task of each agent CLI: through code-workers, and bare in the same sandbox.
    Task,
    /// Submit, lease, start, result, every step on disk: cycles a second, beside other queues.
    Queue,
}

fn main() {
    systems::noop::serve_if_asked();
    let asked = CommandLine::parse();
    open_many_files();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let span = std::time::Duration::from_secs(asked.seconds);
    let (name, rows) = match asked.name {
        Name::Task => ("task", task::run(asked.rounds.unwrap_or(5))),
        Name::Queue => {
            ("queue", runtime.block_on(queue::run(&asked.clients, span, asked.rounds.unwrap_or(3))))
        }
    };
    table::print(name, &rows, asked.json);
}

/// Ten thousand waiters are ten thousand connections.
fn open_many_files() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).expect("up to the hard limit");
}
