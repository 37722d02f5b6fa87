//! No more runs at once than may.

use std::collections::BTreeMap;

use protocol::QueueName;

use crate::history::{Fact, History, When};

/// The highest limit that may have stood in this time. One client changes limits, one change after another.
fn highest(changes: &[(When, u32)], from: u64, to: u64) -> u64 {
    let replaced =
        |when: &When| changes.iter().any(|(next, _)| next.asked > when.answered && next.answered < from);
    let before_all = changes.iter().all(|(when, _)| when.answered > from);
    let standing = changes.iter().filter(|(when, _)| when.asked < to && !replaced(when));
    let limits = standing.map(|(_, limit)| *limit).chain(before_all.then_some(0));
    limits.map(|limit| if limit == 0 { u64::MAX } else { limit.into() }).max().unwrap_or(u64::MAX)
}

/// A limit that is lowered ends nothing: what runs may be over it, and must not grow.
pub(super) fn check(history: &History, faults: &mut Vec<String>) {
    let mut changes: BTreeMap<&QueueName, Vec<(When, u32)>> = BTreeMap::new();
    for (when, fact) in &history.facts {
        if let Fact::Limit { queue, max_running } = fact {
            changes.entry(queue).or_default().push((*when, *max_running));
        }
    }
    let mut last: BTreeMap<&QueueName, u64> = BTreeMap::new();
    let mut since = 0;
    for (when, fact) in &history.facts {
        let Fact::Live(live) = fact else { continue };
        for (queue, count) in live {
            let limits = changes.get(queue).map_or(&[][..], Vec::as_slice);
            let most = highest(limits, since, when.answered).max(last.get(queue).copied().unwrap_or(0));
            if *count > most {
                faults.push(format!("{count} of {queue} ran at once, and {most} may"));
            }
            last.insert(queue, *count);
        }
        let all: u64 = live.values().sum();
        if history.max_running > 0 && all > history.max_running.into() {
            faults.push(format!("{all} ran at once, and {} may", history.max_running));
        }
        since = when.asked;
    }
}
