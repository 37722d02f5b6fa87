//! What all who make the load share.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol::{
    Secret, TaskId,
    client::{ClientError, Endpoint, LeasedClient, OwnerClient},
    folders::Folders,
    submit::NewTask,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    child::KEY,
    history::{Fact, LeaseName, Recorder},
    place::PATIENCE,
};

/// A client waits for the next coordinator, and this long at most, before it asks again.
const AGAIN: Duration = Duration::from_millis(20);

/// A lease that is over, and its client that does not know it.
pub(crate) struct Stale {
    pub(crate) client: LeasedClient,
    pub(crate) lease: LeaseName,
}

/// Tasks as the clients know them.
#[derive(Default)]
pub(crate) struct Known {
    /// Accepted, and not seen to have ended.
    pub(crate) open: VecDeque<TaskId>,
    /// Seen to have ended.
    pub(crate) ended: Vec<TaskId>,
    /// Wait for approval.
    pub(crate) held: Vec<TaskId>,
    /// Of agents, and started.
    pub(crate) running: Vec<TaskId>,
    /// Bodies, for those that were sent by a client.
    pub(crate) bodies: BTreeMap<TaskId, NewTask>,
}

pub(crate) struct World {
    pub(crate) folders: Folders,
    pub(crate) scratch: PathBuf,
    pub(crate) seed: u64,
    pub(crate) agents: bool,
    pub(crate) recorder: Recorder,
    pub(crate) known: Mutex<Known>,
    pub(crate) stale: Mutex<Vec<Stale>>,
    /// How many coordinators there have been.
    pub(crate) generation: watch::Sender<u64>,
    /// Answers so far.
    pub(crate) answers: AtomicU64,
    pub(crate) answered: Notify,
    /// No new tasks.
    pub(crate) closing: CancellationToken,
    /// All have ended.
    pub(crate) done: CancellationToken,
}

impl World {
    pub(crate) fn new(folders: Folders, scratch: PathBuf, seed: u64, agents: bool) -> Self {
        Self {
            folders,
            scratch,
            seed,
            agents,
            recorder: Recorder::default(),
            known: Mutex::default(),
            stale: Mutex::default(),
            generation: watch::Sender::new(0),
            answers: AtomicU64::new(0),
            answered: Notify::new(),
            closing: CancellationToken::new(),
            done: CancellationToken::new(),
        }
    }

    /// A client of the owner's door, with connections of its own.
    pub(crate) fn owner(&self) -> OwnerClient {
        OwnerClient::new(Endpoint::Unix(self.folders.owner_socket()), Secret::new(KEY)).unwrap()
    }

    /// Somebody's own luck.
    pub(crate) fn dice(&self, who: &str, number: u64) -> fastrand::Rng {
        let name = who.bytes().fold(number, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        fastrand::Rng::with_seed(self.seed.wrapping_mul(1_000_003).wrapping_add(name))
    }

    /// Asks until there is an answer that is not only for now. When it was asked first, and the answer.
    pub(crate) async fn ask<T>(
        &self,
        call: impl AsyncFn() -> Result<T, ClientError>,
    ) -> (u64, Result<T, ClientError>) {
        let asked = self.recorder.ask();
        let asking = async {
            loop {
                let mut generation = self.generation.subscribe();
                match call().await {
                    Err(error) if error.is_passing() => {
                        let _ = tokio::time::timeout(AGAIN, generation.changed()).await;
                    }
                    answer => return answer,
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, asking).await.expect("there is no answer for good");
        self.answers.fetch_add(1, Ordering::SeqCst);
        self.answered.notify_waiters();
        (asked, answer)
    }

    /// Until somebody else was answered.
    pub(crate) async fn a_little(&self) {
        let _ = tokio::time::timeout(AGAIN, self.answered.notified()).await;
    }

    /// What the protocol does not explain.
    pub(crate) fn odd(&self, asked: u64, what: &str, error: &ClientError) {
        self.recorder.note(asked, Fact::Odd(format!("{what}: {error}")));
    }
}
