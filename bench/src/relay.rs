//! The relay: new connections a second, a small message's round trip, and bulk, beside other relays and beside none.
//! Clients come over TCP and the server is behind a unix socket, as inside a sandbox; then behind TCP too.

use std::{collections::BTreeMap, time::Duration};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    load::{Client, Sample, closed_loop},
    systems::{
        far_end::{ACK, Door, ECHO, FarEnd, SINK, Stream},
        folder, processor_us,
        relays::{Relay, System},
    },
    table::{Row, summed},
};

/// The bytes of a small message.
const SMALL: usize = 64;
/// What all clients together send in one round of bulk.
const BULK: usize = 256 << 20;
/// What is written at once in bulk.
const CHUNK: usize = 256 << 10;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    /// Connect, one byte there and back, close.
    Connect,
    /// A small message there and back, on an open connection.
    RoundTrip,
    /// Many bytes one way, then one back.
    Bulk,
}

const CASES: [(Case, &str, &str); 3] = [
    (Case::Connect, "connect", "connect tcp"),
    (Case::RoundTrip, "round trip", "round trip tcp"),
    (Case::Bulk, "bulk", "bulk tcp"),
];

/// The systems take turns, round by round.
pub(crate) async fn run(clients: &[usize], span: Duration, rounds: usize) -> Vec<Row> {
    let folder = folder();
    let far = FarEnd::start(folder.path()).await;
    let mut relays = Vec::new();
    for system in System::ALL {
        for behind in [&far.unix, &far.tcp] {
            match Relay::start(system, behind).await {
                Some(relay) => relays.push(relay),
                None => eprintln!("{} is missing: it is not installed", system.name()),
            }
        }
    }
    let mut samples: BTreeMap<_, Vec<Sample>> = BTreeMap::new();
    for _ in 0..rounds {
        for (case, over_unix, over_tcp) in CASES {
            for &clients in clients {
                for relay in &relays {
                    let name = if matches!(relay.behind, Door::Tcp(_)) { over_tcp } else { over_unix };
                    let sample = turn(relay, case, clients, span).await;
                    samples.entry((case, name, clients, relay.system)).or_default().push(sample);
                }
            }
        }
    }
    let mut rows = Vec::new();
    for ((case, name, clients, system), samples) in samples {
        let mut row = summed(name, system.name(), clients, &samples);
        if let (Case::Bulk, Some(per_s)) = (case, row.per_s) {
            row.more.insert(0, ("gb_per_s", per_s * (BULK / clients) as f64 / 1e9));
        }
        rows.push(row);
    }
    compare(&mut rows);
    rows
}

async fn turn(relay: &Relay, case: Case, clients: usize, span: Duration) -> Sample {
    let before = relay.process.as_ref().map(processor_us);
    let mut sample = match case {
        Case::Connect => closed_loop(vec![Connects(relay.door.clone()); clients], span).await,
        Case::RoundTrip => {
            let mut all = Vec::with_capacity(clients);
            for _ in 0..clients {
                all.push(RoundTrips(relay.door.connect(ECHO).await));
            }
            closed_loop(all, span).await
        }
        Case::Bulk => {
            let mut all = Vec::with_capacity(clients);
            for _ in 0..clients {
                all.push(Sends(relay.door.connect(SINK).await, BULK / clients));
            }
            closed_loop(all, span).await
        }
    };
    // What a relay does in children of its own is not seen.
    if let (System::CodeWorkers | System::Proxyd, Some(before), Some(process)) =
        (relay.system, before, &relay.process)
    {
        sample.processor_us = Some((processor_us(process) - before) / sample.times.len() as f64);
    }
    sample
}

/// Connects, sends a byte, hears it, and closes.
#[derive(Clone)]
struct Connects(Door);

/// Sends a small message, and hears it.
struct RoundTrips(Stream);

/// Sends so many bytes, and hears that they came.
struct Sends(Stream, usize);

impl Client for Connects {
    async fn cycle(&mut self) {
        let mut stream = self.0.connect(ECHO).await;
        stream.write_all(b"x").await.expect("it is relayed");
        stream.read_exact(&mut [0]).await.expect("it is relayed");
    }
}

impl Client for RoundTrips {
    async fn cycle(&mut self) {
        self.0.write_all(&[b'x'; SMALL]).await.expect("it is relayed");
        self.0.read_exact(&mut [0; SMALL]).await.expect("it is relayed");
    }
}

impl Client for Sends {
    async fn cycle(&mut self) {
        static BYTES: [u8; CHUNK] = [b'x'; CHUNK];
        self.0.write_all(&(self.1 as u64).to_be_bytes()).await.expect("it is relayed");
        for _ in 0..self.1 / CHUNK {
            self.0.write_all(&BYTES).await.expect("it is relayed");
        }
        let mut ack = [0];
        self.0.read_exact(&mut ack).await.expect("it is relayed");
        assert_eq!(ack, ACK, "the far end counts what comes");
    }
}

/// Says each row's throughput as a multiple of socat's.
fn compare(rows: &mut [Row]) {
    let socat: Vec<_> = rows
        .iter()
        .filter(|row| row.system == System::Socat.name())
        .filter_map(|row| Some((row.case.clone(), row.clients, row.per_s?)))
        .collect();
    for row in rows {
        let base = socat.iter().find(|(case, clients, _)| *case == row.case && *clients == row.clients);
        if let (Some((_, _, base)), Some(per_s)) = (base, row.per_s) {
            row.more.insert(0, ("of_socat", per_s / base));
        }
    }
}
