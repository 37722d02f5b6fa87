//! Numbers as names, and plain data as what the protocol has for it.

use std::time::Duration;

use coordinator::queue::{Incoming, after};
use jiff::Timestamp;
use protocol::{
    QueueName, TaskId, Usd,
    keys::KeyUsage,
    report::{Outcome, Report},
    submit::{Kind, NewTask},
};

use crate::commands::{Base, Draft, Ledger, TIMEOUT};

/// A commit that each mirror is known to have.
pub(super) const KNOWN: &str = "1111111111111111111111111111111111111111";
/// A commit that tasks are pinned to.
pub(super) const COMMIT: &str = "2222222222222222222222222222222222222222";

pub(super) fn incoming(draft: &Draft, begin: Timestamp) -> Incoming {
    let base = match draft.base {
        Base::Known => KNOWN.to_owned(),
        Base::Commit => COMMIT.to_owned(),
        Base::Branch => "main".to_owned(),
        Base::ResultOf(id) => format!("code-workers/{}", task(id)),
    };
    let new = NewTask {
        id: Some(task(draft.id).to_string()),
        queue: name(draft.queue).to_string(),
        kind: if draft.agent { Kind::Agent } else { Kind::Exec },
        prompt: draft.agent.then(|| "do".to_owned()),
        argv: (!draft.agent).then(|| vec!["true".to_owned()]),
        base: Some(base),
        priority: draft.priority,
        max_attempts: Some(draft.attempts),
        timeout_s: Some(TIMEOUT),
        not_before: draft.not_before.map(|time| after(begin, Duration::from_secs(time))),
        unique_key: draft.key.map(|key| format!("k{key}")),
        approval: draft.approval,
        ..NewTask::default()
    };
    let sent = serde_json::to_vec(&new).unwrap();
    Incoming::new(new.check().unwrap(), &sent)
}

pub(super) fn name(queue: u8) -> QueueName {
    format!("q{queue}").parse().unwrap()
}

pub(super) fn task(id: u8) -> TaskId {
    format!("t{id}").parse().unwrap()
}

/// The number in `t3`, `q3`, `k3`, `3`.
pub(super) fn number(name: &str) -> u8 {
    name.trim_start_matches(char::is_alphabetic).parse().unwrap()
}

pub(super) fn text(id: Option<u8>) -> String {
    id.map_or_else(|| "words".to_owned(), |id| format!("m{id}"))
}

pub(super) fn report(outcome: Outcome, words: u8) -> Report {
    Report {
        reason: (words > 0).then(|| format!("w{words}: why")),
        message: (words > 0).then(|| words.to_string()),
        ..Report::new(outcome)
    }
}

pub(super) fn usage(ledger: Ledger) -> Option<KeyUsage> {
    let held_usd = match ledger {
        Ledger::Silent => return None,
        Ledger::Held => Usd::from_nanos(1),
        Ledger::Settled => Usd::ZERO,
    };
    Some(KeyUsage { held_usd, ..KeyUsage::default() })
}
