//! What bounds a relay and each of its connections.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The connections that are copied at once, unless told otherwise.
pub const DEFAULT_MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// How long a connection may carry nothing, unless told otherwise. A lease waits for minutes and a model may think for
/// many before it says a word, so this is far above both: it is for ends that went without a word.
pub const DEFAULT_IDLE: Duration = Duration::from_secs(3600);

/// How long running connections may go on after the relay was told to end.
pub const DRAIN: Duration = Duration::from_secs(10);

/// What bounds a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; those beyond wait in the listener's queue.
    pub max_connections: NonZeroUsize,
    /// How long a connection may carry nothing in either direction; without it, for ever.
    pub idle: Option<Duration>,
    /// How long a connection may be open, whatever it carries; without it, for ever.
    pub lifetime: Option<Duration>,
    /// How long running connections may go on after shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: DEFAULT_MAX_CONNECTIONS,
            idle: Some(DEFAULT_IDLE),
            lifetime: None,
            drain: DRAIN,
        }
    }
}

/// Why a connection was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Idle,
    Lifetime,
}

/// When a connection began, and when it last carried something.
#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    /// Something was carried just now.
    pub(crate) fn now(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(since, Ordering::Relaxed);
    }

    /// Waits until a limit strikes. The clock is looked at when the earliest moment has come, and not at every byte.
    pub(crate) async fn over(&self, limits: &Limits) -> Cut {
        loop {
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let idle = limits.idle.map(|idle| (last + idle, Cut::Idle));
            let lifetime = limits.lifetime.map(|lifetime| (lifetime, Cut::Lifetime));
            let Some((at, cut)) = idle.into_iter().chain(lifetime).min_by_key(|(at, _)| *at) else {
                return std::future::pending().await;
            };
            if self.began.elapsed() >= at {
                return cut;
            }
            tokio::time::sleep_until(self.began + at).await;
        }
    }
}
