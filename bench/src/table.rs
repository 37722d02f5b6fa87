//! How measurements are told.

use std::time::Duration;

use serde_json::json;

/// What one system took, over all rounds.
pub(crate) struct Row {
    /// `code-workers` for ours, else the peer's name.
    pub(crate) system: String,
    /// What it was measured with.
    pub(crate) case: String,
    /// One time a round.
    pub(crate) times: Vec<Duration>,
}

impl Row {
    /// The time that this share of the rounds (0 to 100) did not pass, in milliseconds.
    fn percentile(&self, share: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort();
        let last = times.len().saturating_sub(1);
        times
            .get((times.len() * share).div_ceil(100).saturating_sub(1).min(last))
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
    }
}

/// Prints the rows; the ratio is to the row before of the same case.
pub(crate) fn print(bench: &str, rows: &[Row], as_json: bool) {
    if !as_json {
        println!(
            "{:<12} {:<14} {:>6} {:>10} {:>10} {:>7}",
            "case", "system", "rounds", "p50 ms", "max ms", "ratio"
        );
    }
    for (index, row) in rows.iter().enumerate() {
        let (p50, max) = (row.percentile(50), row.percentile(100));
        let before =
            index.checked_sub(1).map(|before| &rows[before]).filter(|before| before.case == row.case);
        let ratio = before.map(|before| p50 / before.percentile(50));
        if as_json {
            let line = json!({
                "bench": bench, "system": row.system, "case": row.case, "clients": 1,
                "rounds": row.times.len(), "p50_ms": p50, "max_ms": max, "ratio": ratio,
            });
            println!("{line}");
        } else {
            let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            println!(
                "{:<12} {:<14} {:>6} {p50:>10.0} {max:>10.0} {ratio:>7}",
                row.case,
                row.system,
                row.times.len()
            );
        }
    }
}
