//! The gateway, with keys, budgets and ledger, beside nginx's `proxy_pass`, other gateways, and none: small and large
//! bodies, paced streams, memory. The load is made by this program, on the same cores: closed loops, a connection each.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Method, body::Incoming};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    http::Connection,
    load::{Client, Sample, closed_loop},
    systems::{
        folder,
        gateways::{Gateway, System},
        model::{Model, PACE, SENT_AT, now},
        processor_us,
    },
    table::{Row, summed},
};

/// A body as Claude Code sends it: 86 KB.
const LARGE: usize = 86_000;
/// Streams that are open together, and the milliseconds between the deltas of each.
const STREAMS: (usize, u64) = (200, 20);
/// Streams that are open together while the memory is looked at, and their pace.
const OPEN: (usize, u64) = (1_000, 1_000);

/// What is measured in closed loops.
const CASES: [(&str, usize, &[System]); 2] = [
    ("small body", 0, &System::ALL),
    ("86 KB body", LARGE, &[System::Direct, System::Nginx, System::CodeWorkers]),
];

/// The systems take turns, round by round.
pub(crate) async fn run(clients: &[usize], span: Duration, rounds: usize) -> Vec<Row> {
    let folder = folder();
    let model = Model::start();
    let mut gateways = Vec::new();
    for system in System::ALL {
        match Gateway::start(system, model.address, folder.path()).await {
            Some(gateway) => gateways.push(gateway),
            None => eprintln!("{} is missing: it is not installed", system.name()),
        }
    }
    for gateway in &gateways {
        warm(gateway).await;
    }
    let mut samples: BTreeMap<_, Vec<Sample>> = BTreeMap::new();
    for _ in 0..rounds {
        for (place, (_, bytes, systems)) in CASES.iter().enumerate() {
            for &clients in clients {
                for gateway in gateways.iter().filter(|gateway| systems.contains(&gateway.system)) {
                    let sample = turn(gateway, *bytes, clients, span).await;
                    samples.entry((place, clients, gateway.system)).or_default().push(sample);
                }
            }
        }
    }
    let mut rows: Vec<Row> = samples
        .into_iter()
        .map(|((place, clients, system), samples)| summed(CASES[place].0, system.name(), clients, &samples))
        .collect();
    compare(&mut rows);
    rows.extend(streams(&gateways, span, rounds).await);
    for gateway in gateways.iter().filter(|gateway| STREAMING.contains(&gateway.system)) {
        rows.extend(memory(gateway).await);
    }
    rows
}

const STREAMING: [System; 3] = [System::Direct, System::Nginx, System::CodeWorkers];

/// The first requests are not counted: nothing is compiled, connected or looked up yet.
async fn warm(gateway: &Gateway) {
    let mut asks = Asks::new(gateway, 0).await;
    for _ in 0..20 {
        asks.cycle().await;
    }
}

async fn turn(gateway: &Gateway, bytes: usize, clients: usize, span: Duration) -> Sample {
    let mut all = Vec::with_capacity(clients);
    for _ in 0..clients {
        all.push(Asks::new(gateway, bytes).await);
    }
    let before = gateway.process.as_ref().map(processor_us);
    let mut sample = closed_loop(all, span).await;
    // nginx works in children of its own.
    if let (System::CodeWorkers, Some(before), Some(process)) = (gateway.system, before, &gateway.process) {
        sample.processor_us = Some((processor_us(process) - before) / sample.times.len() as f64);
    }
    sample
}

/// Asks for an answer that does not stream.
struct Asks {
    connection: Connection,
    headers: Vec<(hyper::header::HeaderName, hyper::header::HeaderValue)>,
    body: Bytes,
    path: &'static str,
}

impl Asks {
    async fn new(gateway: &Gateway, bytes: usize) -> Self {
        let (path, body) = if bytes == 0 {
            let messages = json!([{"role": "user", "content": "Say that it is done."}]);
            ("/v1/chat/completions", json!({"model": "gpt-4o", "messages": messages, "max_tokens": 100}))
        } else {
            let tools: Vec<_> = (0..25)
                .map(|n| {
                    let text = "It does what it says. ".repeat(bytes / 25 / 22);
                    json!({"name": format!("tool_{n}"), "description": text, "input_schema": {"type": "object"}})
                })
                .collect();
            let messages = json!([{"role": "user", "content": "Say that it is done."}]);
            let body = json!({
                "model": "claude-sonnet-4-5", "max_tokens": 32_000, "tools": tools, "messages": messages,
            });
            ("/v1/messages", body)
        };
        let connection = gateway.connect().await;
        Self { connection, headers: gateway.headers.clone(), body: body.to_string().into(), path }
    }
}

impl Client for Asks {
    async fn cycle(&mut self) {
        let (status, answer) =
            self.connection.call(Method::POST, self.path, &self.headers, self.body.clone()).await;
        assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&answer));
    }
}

/// Says what each adds to the direct way's p50, and each one's throughput as a share of nginx's.
fn compare(rows: &mut [Row]) {
    let known: Vec<_> = rows
        .iter()
        .map(|row| (row.case.clone(), row.clients, row.system.clone(), row.p50_ms, row.per_s))
        .collect();
    for row in rows {
        let of = |system: System| {
            known.iter().find(|(case, clients, name, ..)| {
                *case == row.case && *clients == row.clients && name == system.name()
            })
        };
        if let (Some((.., Some(direct), _)), Some(p50)) = (of(System::Direct), row.p50_ms) {
            row.more.insert(0, ("added_p50_ms", p50 - direct));
        }
        if let (Some((.., Some(nginx))), Some(per_s)) = (of(System::Nginx), row.per_s) {
            row.more.insert(1, ("of_nginx", per_s / nginx));
        }
    }
}

fn stream_body(pace_ms: u64) -> Bytes {
    let body = json!({
        "model": "claude-sonnet-4-5", "max_tokens": 1_000, "stream": true,
        "messages": [{"role": "user", "content": format!("{PACE}{pace_ms}.")}],
    });
    body.to_string().into()
}

/// 200 streams at 50 deltas a second each: from the moment that the model sends a delta to the client's.
async fn streams(gateways: &[Gateway], span: Duration, rounds: usize) -> Vec<Row> {
    let mut samples: BTreeMap<_, Vec<Sample>> = BTreeMap::new();
    for _ in 0..rounds {
        for gateway in gateways.iter().filter(|gateway| STREAMING.contains(&gateway.system)) {
            let until = Instant::now() + Duration::from_secs(1) + span;
            let mut readers = JoinSet::new();
            for _ in 0..STREAMS.0 {
                let stream = open(gateway, STREAMS.1).await;
                readers.spawn(read(stream, until - span, until));
            }
            let mut times = Vec::new();
            while let Some(read) = readers.join_next().await {
                times.append(&mut read.expect("a reader does not panic"));
            }
            samples.entry(gateway.system).or_default().push(Sample::new(times, span));
        }
    }
    samples
        .into_iter()
        .map(|(system, samples)| summed("a delta", system.name(), STREAMS.0, &samples))
        .collect()
}

async fn open(gateway: &Gateway, pace_ms: u64) -> (Connection, Incoming) {
    let mut connection = gateway.connect().await;
    let answer = connection.open(Method::POST, "/v1/messages", stream_body(pace_ms)).await;
    (connection, answer)
}

/// How long each delta was under way, of those that came between the two moments.
async fn read(
    (_connection, mut body): (Connection, Incoming),
    from: Instant,
    until: Instant,
) -> Vec<Duration> {
    let mut times = Vec::new();
    while let Ok(Some(frame)) = tokio::time::timeout_at(until, body.frame()).await {
        let chunk = frame.expect("the stream goes on").into_data().unwrap_or_default();
        let arrived = now();
        if Instant::now() < from {
            continue;
        }
        for at in memchr::memmem::find_iter(&chunk, SENT_AT) {
            let digits = chunk[at + SENT_AT.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            let sent = digits.fold(0_u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
            times.push(Duration::from_nanos(u64::try_from(arrived.saturating_sub(sent)).unwrap_or(u64::MAX)));
        }
    }
    times
}

/// Resident memory with 1,000 open streams, a delta a second each.
async fn memory(gateway: &Gateway) -> Option<Row> {
    let before = gateway.resident_mb()?;
    let until = Instant::now() + Duration::from_secs(6);
    let mut readers = JoinSet::new();
    for _ in 0..OPEN.0 {
        let stream = open(gateway, OPEN.1).await;
        readers.spawn(read(stream, until, until));
    }
    tokio::time::sleep_until(until - Duration::from_secs(1)).await;
    let with = gateway.resident_mb()?;
    readers.abort_all();
    Some(Row {
        system: gateway.system.name().to_owned(),
        case: "open streams".to_owned(),
        clients: OPEN.0,
        rounds: 1,
        more: vec![("before_mb", before), ("resident_mb", with)],
        ..Row::default()
    })
}
