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
mod cold;
mod dispatch;
mod gateway;
mod history;
mod http;
mod load;
mod queue;
mod relay;
mod sandbox;
mod stream;
mod systems;
mod table;
mod task;
mod waiters;
mod work;

use std::time::Duration;

use clap::{Parser, ValueEnum as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Measures code-workers.
#[derive(Debug, Parser)]
struct CommandLine {
    /// What to measure.
    #[arg(value_enum)]
    name: Name,
    /// How many clients at once.
    #[arg(long, value_delimiter = ',')]
    clients: Option<Vec<usize>>,
    /// Which systems take turns in `queue`; usually all.
    #[arg(long, value_enum, value_delimiter = ',')]
    systems: Option<Vec<queue::System>>,
    /// Seconds of one turn.
    #[arg(long)]
    seconds: Option<u64>,
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
    /// From `POST /tasks` to the lease in a waiting worker's hands: alone, beside 50 streams, with 1,000 waiters.
    Dispatch,
    /// 1,000 and 10,000 waiting workers: dispatch, and resident memory for each.
    Waiters,
    /// A million finished tasks: start-up and every operation, beside an empty database.
    History,
    /// The gateway beside nginx, Portkey, LiteLLM and none: small and large bodies, streams, memory.
    Gateway,
    /// The relay beside socat, systemd-socket-proxyd and none: connections, round trips, bulk.
    Relay,
    /// From the lease to the agent's start in a waiting sandbox, and the memory of those that wait.
    Sandbox,
    /// Cold starts: the launcher's, `runsc run` by hand, `docker run --runtime=runsc`.
    Cold,
    /// `git status` on 50,000 files, `cargo build`, `npm test`: inside, bare, and in Docker with runsc.
    Work,
}

fn main() {
    systems::noop::serve_if_asked();
    systems::model::serve_if_asked();
    let asked = CommandLine::parse();
    open_many_files();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let span = |usual| Duration::from_secs(asked.seconds.unwrap_or(usual));
    let rounds = |usual| asked.rounds.unwrap_or(usual);
    let clients = |usual: &[usize]| asked.clients.clone().unwrap_or_else(|| usual.to_owned());
    let (name, rows) = match asked.name {
        Name::Task => ("task", task::run(rounds(5))),
        Name::Queue => {
            let systems = asked.systems.unwrap_or_else(|| queue::System::value_variants().to_owned());
            let clients = clients(&[1, 16, 64]);
            let measured = queue::run(&systems, &clients, span(2), rounds(3));
            ("queue", runtime.block_on(measured))
        }
        Name::Dispatch => ("dispatch", runtime.block_on(dispatch::run(span(10), rounds(3)))),
        Name::Waiters => {
            ("waiters", runtime.block_on(waiters::run(&clients(&[1_000, 10_000]), span(10), rounds(1))))
        }
        Name::History => ("history", runtime.block_on(history::run(span(3), rounds(3)))),
        Name::Sandbox => ("sandbox", sandbox::run(&clients(&[1, 10, 50]), rounds(20))),
        Name::Cold => ("cold", cold::run(rounds(10))),
        Name::Work => ("work", work::run(rounds(5))),
        Name::Gateway => ("gateway", runtime.block_on(gateway::run(&clients(&[1, 16]), span(2), rounds(5)))),
        Name::Relay => ("relay", runtime.block_on(relay::run(&clients(&[1, 64]), span(2), rounds(3)))),
    };
    table::print(name, &rows, asked.json);
}

/// Ten thousand waiters are ten thousand connections.
fn open_many_files() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).expect("up to the hard limit");
}
