//! Whether what was told fits together, and fits the end. Pure: a history and an end go in, faults come out.

mod events;
mod leases;
mod limits;
mod orders;
mod tasks;
mod tests;

pub(crate) use tasks::differs;

use crate::{end::End, history::History};

/// Every fault, as a sentence.
pub(crate) fn faults(history: &History, end: &End) -> Vec<String> {
    let mut faults = Vec::new();
    tasks::check(history, end, &mut faults);
    leases::check(history, end, &mut faults);
    limits::check(history, &mut faults);
    events::check(history, end, &mut faults);
    orders::check(history, &mut faults);
    faults
}
