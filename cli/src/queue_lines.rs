//! Queues in the words of `queue`, `pause`, `resume` and `drain`.

use protocol::queue::{QueueDepth, QueueStatus};

/// One sentence: what it does with tasks, its limit, and what is unfinished.
pub(crate) fn sentence(queue: &QueueStatus) -> String {
    let limit = match queue.max_running {
        0 => String::new(),
        limit => format!(", at most {limit} at once"),
    };
    format!("{} is {}{limit}: {}", queue.name, queue.mode, unfinished(&queue.depth))
}

/// How many tasks are unfinished, and in which states.
pub(crate) fn unfinished(depth: &QueueDepth) -> String {
    let states = by_state(depth).into_iter().filter(|(_, count)| *count > 0);
    let states: Vec<String> = states.map(|(state, count)| format!("{count} {state}")).collect();
    match depth.unfinished() {
        0 => "no task is unfinished".to_owned(),
        all => format!("{all} unfinished ({})", states.join(", ")),
    }
}

/// A head and a line for each, in columns. No limit is `-`.
pub(crate) fn table(queues: &[QueueStatus]) -> String {
    let states = by_state(&QueueDepth::default()).map(|(state, _)| state.to_owned());
    let head = ["QUEUE", "MODE", "LIMIT"].map(str::to_owned).into_iter();
    let mut rows: Vec<Vec<String>> = vec![head.chain(states.map(|state| state.to_uppercase())).collect()];
    rows.extend(queues.iter().map(|queue| {
        let limit = if queue.max_running == 0 { "-".to_owned() } else { queue.max_running.to_string() };
        let first = [queue.name.to_string(), queue.mode.to_string(), limit].into_iter();
        first.chain(by_state(&queue.depth).map(|(_, count)| count.to_string())).collect()
    }));
    columns(&rows, 2)
}

/// Rows under each other: the first so many columns, which are words, to the left, numbers to the right.
pub(crate) fn columns(rows: &[Vec<String>], words: usize) -> String {
    let wide = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..).map_while(wide).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < words { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

const fn by_state(depth: &QueueDepth) -> [(&'static str, u64); 5] {
    [
        ("held", depth.held),
        ("scheduled", depth.scheduled),
        ("ready", depth.ready),
        ("leased", depth.leased),
        ("running", depth.running),
    ]
}

#[cfg(test)]
mod tests {
    use super::{sentence, table};
    use protocol::queue::{QueueDepth, QueueMode, QueueStatus};

    fn queue(name: &str, mode: QueueMode, max_running: u32, depth: QueueDepth) -> QueueStatus {
        QueueStatus { name: name.parse().unwrap(), mode, max_running, depth }
    }

    #[test]
    fn a_queue_is_told_in_a_sentence_and_in_a_table() {
        let depth = QueueDepth { held: 1, ready: 12, running: 2, ..QueueDepth::default() };
        let queues = [
            queue("a", QueueMode::Draining, 0, QueueDepth::default()),
            queue("sample", QueueMode::Open, 20, depth),
        ];
        assert_eq!(sentence(&queues[0]), "a is draining: no task is unfinished");
        assert_eq!(
            sentence(&queues[1]),
            "sample is open, at most 20 at once: 15 unfinished (1 held, 12 ready, 2 running)"
        );
        let wanted = "\
            QUEUE   MODE      LIMIT  HELD  SCHEDULED  READY  LEASED  RUNNING\n\
            a       draining      -     0          0      0       0        0\n\
            sample  open         20     1          0     12       0        2";
        assert_eq!(table(&queues), wanted);
    }
}
