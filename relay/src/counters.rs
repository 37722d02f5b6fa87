//! What a relay has done, as numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counters of a relay since its start. Displayed as one line of `name=number`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are open now.
    pub open: AtomicU64,
    /// Connections that were accepted.
    pub accepted: AtomicU64,
    /// Connections that were ended at once, since what is behind could not be dialled.
    pub refused: AtomicU64,
    /// Bytes from clients to dialled peers.
    pub sent: AtomicU64,
    /// Bytes from dialled peers to clients.
    pub received: AtomicU64,
    /// Connections that were cut because nothing moved.
    pub cut_idle: AtomicU64,
    /// Connections that were cut because they had lived too long.
    pub cut_lifetime: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Counters {
    /// Counts an error by where it was met (`accept`, `dial`, `read`, `write`) and what the system calls it.
    pub(crate) fn error(&self, met_at: &str, error: &io::Error) {
        let name = format!("{met_at}: {error}");
        *self.errors.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    }
}

/// One more.
pub(crate) fn up(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One less.
pub(crate) fn down(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

impl fmt::Display for Counters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counter) in [
            ("open", &self.open),
            ("accepted", &self.accepted),
            ("refused", &self.refused),
            ("bytes_sent", &self.sent),
            ("bytes_received", &self.received),
            ("cut_idle", &self.cut_idle),
            ("cut_lifetime", &self.cut_lifetime),
        ] {
            write!(out, "{name}={} ", counter.load(Ordering::Relaxed))?;
        }
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        write!(out, "errors={}", errors.values().sum::<u64>())?;
        for (name, count) in errors.iter() {
            write!(out, " [{name}]={count}")?;
        }
        Ok(())
    }
}
