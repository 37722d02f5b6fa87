//! How measurements are told.

use serde_json::{Map, Value, json};

use crate::load::{Sample, median};

/// What one system did in one case, over all rounds.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// `code-workers` for ours, else the peer's name.
    pub(crate) system: String,
    /// What it was measured with.
    pub(crate) case: String,
    /// How many did it at once.
    pub(crate) clients: usize,
    /// Rounds that the numbers are the medians of.
    pub(crate) rounds: usize,
    /// Operations a second.
    pub(crate) per_s: Option<f64>,
    /// What half of the operations did not pass, in milliseconds.
    pub(crate) p50_ms: Option<f64>,
    /// What 99 in 100 did not pass, in milliseconds.
    pub(crate) p99_ms: Option<f64>,
    /// What else was measured; the name says the unit.
    pub(crate) more: Vec<(&'static str, f64)>,
}

/// The medians of the rounds.
pub(crate) fn summed(case: &str, system: &str, clients: usize, rounds: &[Sample]) -> Row {
    let of_all = |number: fn(&Sample) -> f64| Some(median(rounds.iter().map(number).collect()));
    Row {
        system: system.to_owned(),
        case: case.to_owned(),
        clients,
        rounds: rounds.len(),
        per_s: of_all(|sample| sample.per_s),
        p50_ms: of_all(|sample| sample.percentile(50)),
        p99_ms: of_all(|sample| sample.percentile(99)),
        more: rounds
            .iter()
            .map(|sample| sample.processor_us)
            .collect::<Option<Vec<_>>>()
            .map(|used| ("server_cpu_us", median(used)))
            .into_iter()
            .collect(),
    }
}

/// Prints the rows.
pub(crate) fn print(bench: &str, rows: &[Row], as_json: bool) {
    if !as_json {
        println!(
            "{:<14} {:<14} {:>7} {:>6} {:>9} {:>9} {:>9}",
            "case", "system", "clients", "rounds", "per s", "p50 ms", "p99 ms"
        );
    }
    for row in rows {
        if as_json {
            println!("{}", line(bench, row));
            continue;
        }
        let number =
            |number: Option<f64>, digits| number.map_or_else(String::new, |n| format!("{n:.digits$}"));
        let more: Vec<_> = row.more.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
        println!(
            "{:<14} {:<14} {:>7} {:>6} {:>9} {:>9} {:>9}  {}",
            row.case,
            row.system,
            row.clients,
            row.rounds,
            number(row.per_s, 0),
            number(row.p50_ms, 3),
            number(row.p99_ms, 3),
            more.join("  ")
        );
    }
}

/// A row as JSON; what was not measured is not there.
fn line(bench: &str, row: &Row) -> Value {
    let mut line = Map::new();
    let mut put = |name: &str, value: Value| drop(line.insert(name.to_owned(), value));
    put("bench", json!(bench));
    put("system", json!(row.system));
    put("case", json!(row.case));
    put("clients", json!(row.clients));
    put("rounds", json!(row.rounds));
    let timed = [("per_s", row.per_s), ("p50_ms", row.p50_ms), ("p99_ms", row.p99_ms)];
    let timed = timed.into_iter().filter_map(|(name, value)| Some((name, value?)));
    for (name, value) in timed.chain(row.more.iter().copied()) {
        put(name, json!(value));
    }
    line.into()
}
