//! The queues: what is on disk, what stands in memory beside it, and the verbs that change both.
//!
//! `transition` knows the rules, `store` writes in groups, `live` knows who was heard when, `wake` rings for those
//! who wait. Everything that is asked of a queue is a method of [`Queue`], one file a subject. Time is always a
//! parameter.

mod control;
mod finish;
mod lease;
mod live;
mod mark;
mod migrate;
mod orders;
mod payer;
mod read;
mod reaper;
mod registry;
mod repeat;
mod retention;
mod row;
mod sql;
mod store;
mod submit;
mod sum;
mod transition;
mod tx;
mod uploads;
mod wake;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use jiff::Timestamp;
use protocol::QueueName;
use tokio::sync::mpsc::UnboundedReceiver;

pub use finish::Reported;
pub use lease::LeaseRequest;
pub(crate) use lease::worker_has_ended;
pub use payer::Payer;
pub use registry::Registered;
pub use retention::{Cursor, Kind};
pub use row::{Approval, End, Row, Stand};
pub(crate) use store::locked;
pub use store::{Commit, Store, StoreError};
pub(crate) use submit::full_commit;
pub use submit::{Incoming, Taken};
pub use transition::{Change, Command, RUN_MARGIN, Refusal, after, transition};
pub use tx::Committed;
pub(crate) use tx::unknown_task;

use crate::{clock::Clock, metrics::Metrics, output::Outputs, tokens::Tokens};
use control::Control;
use live::Live;
use registry::Workers;
use wake::Wake;

/// All queues.
pub struct Queue {
    store: Store,
    live: Arc<Live>,
    wake: Arc<Wake>,
    workers: Workers,
    tokens: Tokens,
    control: Control,
    /// The reaper has looked once.
    reaped: AtomicBool,
}

impl Queue {
    /// Opens the database and takes up what stood in it. At most `max_running` tasks of all queues are leased or
    /// running at once; 0 for no limit. Beside the queues: where the names of queues with held
    /// tasks come out.
    ///
    /// # Errors
    /// The store's.
    pub fn open(
        database: &Path,
        tokens: Tokens,
        outputs: Arc<Outputs>,
        metrics: Arc<Metrics>,
        max_running: u32,
        clock: Clock,
    ) -> Result<(Arc<Self>, UnboundedReceiver<QueueName>), StoreError> {
        let live = Arc::new(Live::default());
        let (wake, held) = Wake::new();
        let wake = Arc::new(wake);
        let store = {
            let (live, wake) = (live.clone(), wake.clone());
            Store::open(database, move |commit| {
                let changes = commit.changes;
                metrics.committed(commit);
                live.committed(changes, clock.now());
                outputs.committed(changes);
                wake.ring(changes);
            })?
        };
        let control = Control::new(wake.clone(), max_running);
        let queue = Self {
            store,
            live,
            wake,
            workers: Workers::default(),
            tokens,
            control,
            reaped: AtomicBool::new(false),
        };
        queue.take_up(clock.now())?;
        Ok((Arc::new(queue), held))
    }

    fn take_up(&self, now: Timestamp) -> Result<(), StoreError> {
        for row in self.store.read(|connection| read::rows(connection, sql::LIVE, []))? {
            self.live.take_up(&row, now);
        }
        self.held_queues()?.into_iter().for_each(|queue| self.wake.hold(queue));
        Ok(())
    }

    /// Makes and checks tokens.
    #[must_use]
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The bells.
    pub(crate) const fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }

    /// Looks through a large database for damage; of a small one this was done at its opening.
    ///
    /// # Errors
    /// The damage, and the store's.
    pub fn check(&self) -> Result<(), StoreError> {
        self.store.check()
    }

    /// Takes no more operations, and returns when those taken are on disk.
    pub fn close(&self) {
        self.store.close();
    }
}
