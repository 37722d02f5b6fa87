//! Every acknowledged message has one number, and is handed out under it and in order.

use std::collections::BTreeMap;

use protocol::{
    TaskId,
    lease::{Order, OrderKind},
};
use uuid::Uuid;

use crate::history::{Fact, History, When};

pub(super) fn check(history: &History, faults: &mut Vec<String>) {
    let mut numbers: BTreeMap<(&TaskId, Uuid), u64> = BTreeMap::new();
    let mut told: BTreeMap<&TaskId, Vec<(When, u64, &str)>> = BTreeMap::new();
    let mut handed: BTreeMap<(&TaskId, u64), &OrderKind> = BTreeMap::new();
    for (when, fact) in &history.facts {
        match fact {
            Fact::Told { task, message, seq, text } => {
                if numbers.insert((task, *message), *seq).is_some_and(|before| before != *seq) {
                    faults.push(format!("message {message} of {task} has two numbers"));
                }
                told.entry(task).or_default().push((*when, *seq, text));
            }
            Fact::Beat { lease, after, orders } => {
                let expected = *after + 1..=after + orders.len() as u64;
                if !orders.iter().map(|order| order.seq).eq(expected) {
                    faults.push(format!("{lease:?} got orders {orders:?} after {after}"));
                }
                for Order { seq, kind } in orders {
                    if handed.insert((&lease.task, *seq), kind).is_some_and(|before| before != kind) {
                        faults.push(format!("order {seq} of {} is two things", lease.task));
                    }
                }
                let got = after + orders.len() as u64;
                let before = told.get(&lease.task).into_iter().flatten();
                let mut missed = before.filter(|(told, seq, _)| told.answered < when.asked && *seq > got);
                if let Some((_, seq, _)) = missed.next() {
                    faults.push(format!("{lease:?} was not told order {seq} of before its heartbeat"));
                }
            }
            _ => {}
        }
    }
    for (task, messages) in &told {
        for (_, seq, text) in messages {
            match handed.get(&(*task, *seq)) {
                Some(OrderKind::Message { text: given }) if given == text => {}
                None => {}
                Some(other) => faults.push(format!("order {seq} of {task} is {other:?}, not {text:?}")),
            }
        }
    }
}
