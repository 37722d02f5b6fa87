//! Thousands of workers that wait: how fast one of them gets a task, and what each costs in memory.

use std::time::Duration;

use crate::{
    dispatch::Waiters,
    load::median,
    systems::{folder, ours::Ours},
    table::{Row, summed},
};

/// For each count a coordinator of its own, in turns, round by round.
pub(crate) async fn run(counts: &[usize], span: Duration, rounds: usize) -> Vec<Row> {
    let folder = folder();
    let mut measured: Vec<_> = counts.iter().map(|count| (*count, Vec::new(), Vec::new())).collect();
    for round in 0..rounds {
        for (count, samples, memory) in &mut measured {
            let ours = Ours::start(folder.path(), &format!("{round} {count}")).await;
            let before = ours.resident_kib();
            let mut waiters = Waiters::start(&ours, *count).await;
            let each = (ours.resident_kib() - before) / f64::from(u32::try_from(*count).expect("fewer"));
            memory.push(each);
            samples.push(waiters.dispatch(&ours, span).await);
        }
    }
    let rows = measured.into_iter().map(|(count, samples, memory)| {
        let mut row = summed("dispatch", "code-workers", count, &samples);
        row.more.push(("kib_per_waiter", median(memory)));
        row
    });
    rows.collect()
}
