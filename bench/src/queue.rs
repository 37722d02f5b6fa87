//! The queue: a cycle is submit, lease, start, result over HTTP, every step on disk; and thousands submitted at
//! once. Beside it a server that does nothing, the bare disk, and other queues that flush every step.

use std::{collections::BTreeMap, path::Path, time::Duration};

use e2e::Process;

use crate::{
    api::Doors,
    load::{Client, Sample, closed_loop, median},
    systems::{
        beanstalkd::Beanstalkd,
        fdatasync::Append,
        folder,
        noop::Noop,
        ours::{Bulk, Cycle, Ours, QUEUE},
        postgres, processor_us, redis,
    },
    table::{Row, summed},
};

/// What thousands submitted at once are counted as.
const THOUSAND: f64 = 1_000.0;

/// All systems, running; each has nothing to do while another has its turn.
struct Systems<'a> {
    folder: &'a Path,
    ours: Ours,
    noop: Noop,
    beanstalkd: Option<Beanstalkd>,
    redis: Option<redis::Server>,
    postgres: Option<postgres::Server>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum System {
    /// A server that answers, and does nothing.
    Noop,
    /// Ours.
    CodeWorkers,
    /// The bare disk.
    Fdatasync,
    /// beanstalkd -f 0
    Beanstalkd,
    /// Redis, appendfsync always
    Redis,
    /// PostgreSQL, SKIP LOCKED
    Postgres,
}

impl System {
    const fn name(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::CodeWorkers => "code-workers",
            Self::Fdatasync => "fdatasync",
            Self::Beanstalkd => "beanstalkd",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }
}

impl<'a> Systems<'a> {
    async fn start(folder: &'a Path, asked: &[System]) -> Self {
        let ours = Ours::start(folder, "ours").await;
        let noop = Noop::start(folder, &ours.answers().await);
        let mut systems = Self { folder, ours, noop, beanstalkd: None, redis: None, postgres: None };
        for system in asked {
            let found = match system {
                System::Beanstalkd => {
                    systems.beanstalkd = Beanstalkd::start(folder).await;
                    systems.beanstalkd.is_some()
                }
                System::Redis => {
                    systems.redis = redis::Server::start(folder);
                    systems.redis.is_some()
                }
                System::Postgres => {
                    systems.postgres = postgres::Server::start(folder).await;
                    systems.postgres.is_some()
                }
                System::Noop | System::CodeWorkers | System::Fdatasync => true,
            };
            if !found {
                eprintln!("{} is missing: it is not installed", system.name());
            }
        }
        systems
    }

    /// One turn of a system; `None` where it is missing, or has none with so many clients.
    async fn turn(&self, system: System, clients: usize, span: Duration) -> Option<Sample> {
        let sample = match system {
            System::Noop => self.http(&self.noop.doors, &self.noop.process, clients, span).await,
            System::CodeWorkers => self.http(&self.ours.doors, &self.ours.process, clients, span).await,
            // A disk has one queue: more who append would tell of the file system's locks.
            System::Fdatasync if clients > 1 => return None,
            System::Fdatasync => closed_loop(vec![Append::new(self.folder)], span).await,
            System::Beanstalkd => {
                let server = self.beanstalkd.as_ref()?;
                closed_loop(many(clients, || server.client()).await, span).await
            }
            System::Redis => {
                let server = self.redis.as_ref()?;
                closed_loop(many(clients, || server.client()).await, span).await
            }
            System::Postgres => {
                let server = self.postgres.as_ref()?;
                closed_loop(many(clients, || server.client()).await, span).await
            }
        };
        Some(sample)
    }

    async fn http(&self, doors: &Doors, process: &Process, clients: usize, span: Duration) -> Sample {
        let task = self.ours.task(QUEUE);
        let clients = many(clients, || Cycle::new(doors, &task)).await;
        let before = processor_us(process);
        let mut sample = closed_loop(clients, span).await;
        let cycles = u32::try_from(sample.times.len()).unwrap_or(u32::MAX);
        sample.processor_us = Some((processor_us(process) - before) / f64::from(cycles));
        sample
    }
}

async fn many<C: Client, F: Future<Output = C>>(count: usize, new: impl Fn() -> F) -> Vec<C> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(new().await);
    }
    clients
}

/// The systems take turns, round by round.
pub(crate) async fn run(asked: &[System], clients: &[usize], span: Duration, rounds: usize) -> Vec<Row> {
    let folder = folder();
    let systems = Systems::start(folder.path(), asked).await;
    let mut samples: BTreeMap<(usize, System), Vec<Sample>> = BTreeMap::new();
    let mut flushes: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for &clients in clients {
            for &system in asked {
                let before = systems.ours.commits().await;
                if let Some(sample) = systems.turn(system, clients, span).await {
                    samples.entry((clients, system)).or_default().push(sample);
                }
                if system == System::CodeWorkers {
                    let of_turn = share(before, systems.ours.commits().await);
                    flushes.entry(clients).or_default().push(of_turn);
                }
            }
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    for ((clients, system), samples) in samples {
        let mut row = summed("cycle", system.name(), clients, &samples);
        if system == System::CodeWorkers {
            row.more.extend(flushes.remove(&clients).map(|of_turns| ("commits_per_op", median(of_turns))));
        }
        rows.push(row);
    }
    rows.extend(bulk(&systems, asked, span, rounds).await);
    compare(&mut rows);
    rows
}

/// Commits an operation between two counts.
fn share((commits, operations): (f64, f64), (more_commits, more_operations): (f64, f64)) -> f64 {
    (more_commits - commits) / (more_operations - operations)
}

/// Arrays of a thousand tasks; what is counted is tasks.
async fn bulk(systems: &Systems<'_>, asked: &[System], span: Duration, rounds: usize) -> Vec<Row> {
    let both = [(System::Noop, &systems.noop.doors), (System::CodeWorkers, &systems.ours.doors)];
    let mut measured: Vec<_> = both
        .into_iter()
        .filter(|(system, _)| asked.contains(system))
        .map(|(system, doors)| (system, doors, Vec::new()))
        .collect();
    for _ in 0..rounds {
        for (_, doors, samples) in &mut measured {
            let client = Bulk::new(doors, systems.ours.thousand()).await;
            let mut sample = closed_loop(vec![client], span).await;
            sample.per_s *= THOUSAND;
            samples.push(sample);
        }
    }
    measured.iter().map(|(system, _, samples)| summed("bulk 1000", system.name(), 1, samples)).collect()
}

/// Says each row's throughput as a share of what HTTP alone reaches.
fn compare(rows: &mut [Row]) {
    let noop: Vec<_> = rows
        .iter()
        .filter(|row| row.system == System::Noop.name())
        .filter_map(|row| Some((row.case.clone(), row.clients, row.per_s?)))
        .collect();
    for row in rows {
        let base = noop.iter().find(|(case, clients, _)| *case == row.case && *clients == row.clients);
        if let (Some((_, _, base)), Some(per_s)) = (base, row.per_s) {
            row.more.insert(0, ("of_noop", per_s / base));
        }
    }
}
