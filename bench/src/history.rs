//! A database with a million finished tasks beside an empty one: the start, and each operation.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rusqlite::Connection;

use crate::{
    api::{Owner, REPORT, Worker, id_of},
    load::{Sample, median},
    systems::{
        folder,
        ours::{Ours, QUEUE},
    },
    table::{Row, summed},
};

const FINISHED: usize = 1_000_000;
/// Tasks on a page of `GET /tasks` that names no limit.
const PAGE: usize = 50;
const STEPS: [&str; 6] = ["submit", "lease", "start", "result", "GET /tasks/ID", "GET /tasks"];
const SYSTEMS: [&str; 2] = ["empty", "code-workers"];

/// Both take turns, round by round.
pub(crate) async fn run(span: Duration, rounds: usize) -> Vec<Row> {
    let folder = folder();
    let mut empty = with_a_page(folder.path(), "empty").await;
    let (mut full, _) = with_a_page(folder.path(), "full").await.restart(copy_finished).await;
    let mut starts = [Vec::new(), Vec::new()];
    let mut samples: [[Vec<Sample>; 6]; 2] = Default::default();
    for _ in 0..rounds {
        let (again, took) = empty.restart(|_| ()).await;
        empty = again;
        starts[0].push(took.as_secs_f64() * 1_000.0);
        let (again, took) = full.restart(|_| ()).await;
        full = again;
        starts[1].push(took.as_secs_f64() * 1_000.0);
        for (ours, samples) in [&empty, &full].into_iter().zip(&mut samples) {
            for (times, samples) in turn(ours, span).await.into_iter().zip(samples) {
                samples.push(Sample::new(times, span));
            }
        }
    }
    let mut rows = Vec::new();
    for (system, starts) in SYSTEMS.iter().zip(starts) {
        rows.push(Row {
            system: (*system).to_owned(),
            case: "start-up".to_owned(),
            clients: 1,
            rounds,
            p50_ms: Some(median(starts)),
            ..Row::default()
        });
    }
    for (step, name) in STEPS.iter().enumerate() {
        let of_step = SYSTEMS.iter().zip(&samples);
        let mut of_step = of_step.map(|(system, samples)| summed(name, system, 1, &samples[step]));
        if let (Some(empty), Some(mut full)) = (of_step.next(), of_step.next()) {
            let growth = full.p50_ms.zip(empty.p50_ms).map(|(full, empty)| full / empty);
            full.more.extend(growth.map(|growth| ("of_empty", growth)));
            rows.extend([empty, full].map(|row| Row { per_s: None, ..row }));
        }
    }
    rows
}

/// A coordinator with so many finished tasks that a page of `GET /tasks` is full.
async fn with_a_page(folder: &Path, name: &str) -> Ours {
    let ours = Ours::start(folder, name).await;
    let (mut owner, mut worker) = (ours.doors.owner().await, ours.doors.worker(QUEUE).await);
    let task = ours.task(QUEUE).to_string().into();
    for _ in 0..PAGE {
        cycle(&mut owner, &mut worker, &task).await;
    }
    ours
}

/// One sender and one worker, step by step; the times of each step.
async fn turn(ours: &Ours, span: Duration) -> [Vec<Duration>; 6] {
    let (mut owner, mut worker) = (ours.doors.owner().await, ours.doors.worker(QUEUE).await);
    let task: Bytes = ours.task(QUEUE).to_string().into();
    let mut times: [Vec<Duration>; 6] = Default::default();
    let began = Instant::now();
    while began.elapsed() < span {
        for (taken, times) in cycle(&mut owner, &mut worker, &task).await.into_iter().zip(&mut times) {
            times.push(taken);
        }
    }
    times
}

async fn cycle(owner: &mut Owner, worker: &mut Worker, task: &Bytes) -> [Duration; 6] {
    let mut last = Instant::now();
    let mut took = || {
        let before = std::mem::replace(&mut last, Instant::now());
        last.duration_since(before)
    };
    let answer = owner.post("/tasks", task.clone()).await;
    let submit = took();
    let (lease, _) = worker.lease(50).await.expect("its task is there");
    let leased = took();
    worker.of_lease(&lease, "start", Bytes::from_static(b"{}")).await;
    let start = took();
    worker.of_lease(&lease, "result", Bytes::from_static(REPORT)).await;
    let result = took();
    let (status, _) = owner.get(&format!("/tasks/{}", id_of(&answer))).await;
    assert!(status.is_success(), "a task that was made is not shown: {status}");
    let one = took();
    let (status, _) = owner.get("/tasks").await;
    assert!(status.is_success(), "tasks are not listed: {status}");
    [submit, leased, start, result, one, took()]
}

/// Copies the rows of the last finished task, which went through the API, a million times. Sending that many would
/// take far longer than all that is measured.
fn copy_finished(database: &Path) {
    let mut connection = Connection::open(database).expect("the coordinator made it");
    let transaction = connection.transaction().expect("nobody else has it");
    let newest = "SELECT MAX(n) FROM tasks WHERE state = 'succeeded'";
    let newest: i64 = transaction.query_row(newest, [], |row| row.get(0)).expect("one has ended");
    for (table, task) in [("bodies", "task"), ("events", "task"), ("reports", "task"), ("tasks", "n")] {
        let query = format!("SELECT name FROM pragma_table_info('{table}')");
        let mut query = transaction.prepare(&query).expect("the table is there");
        let columns = query.query_map([], |row| row.get(0)).expect("columns");
        let columns: Vec<String> = columns.collect::<Result<_, _>>().expect("names");
        let of_copy = |column: &String| match column.as_str() {
            // Below those that went through the API: no page shows a copy, whose checksums are another row's.
            name if name == task => "-i".to_owned(),
            "id" => "printf('%08x-0000-7000-8000-%012x', 1 + i / 1000, i)".to_owned(),
            "n" if table == "reports" => "NULL".to_owned(),
            name => name.to_owned(),
        };
        let copied: Vec<_> = columns.iter().map(of_copy).collect();
        let copy = format!(
            "WITH RECURSIVE copies (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM copies WHERE i < {FINISHED}) \
             INSERT INTO {table} ({}) SELECT {} FROM copies, (SELECT * FROM {table} WHERE {task} = {newest})",
            columns.join(", "),
            copied.join(", ")
        );
        let copied = transaction.execute(&copy, []).expect("the copies go in");
        assert!(copied >= FINISHED, "{copied} rows of {table}");
    }
    transaction.commit().expect("there is room");
}
