//! Measurements, one command each: `cargo run --release -p bench -- NAME [--rounds N] [--json]`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on has nothing to say, and what it says is its output"
)]

mod table;
mod task;

use clap::Parser;

/// Measures code-workers.
#[derive(Debug, Parser)]
struct CommandLine {
    /// What to measure.
    #[arg(value_enum)]
    name: Name,
    /// Rounds; in each, every system has one turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A line of JSON a row, instead of a table.
    #[arg(long)]
    json: bool,
}

/// The benchmarks.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Name {
    /// One recorded task of each agent CLI: through code-workers, and bare in the same sandbox.
    Task,
}

fn main() {
    let asked = CommandLine::parse();
    let rows = match asked.name {
        Name::Task => task::run(asked.rounds),
    };
    table::print("task", &rows, asked.json);
}
