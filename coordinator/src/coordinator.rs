//! The whole: what all doors share, and the running of it.

use std::{sync::Arc, time::Duration};

use axum::serve::ListenerExt as _;
use protocol::{
    Code, Problem, Secret, TaskId, Usd,
    client::{AdminClient, ClientError, Endpoint},
    folders::Folders,
    keys::KeyLimits,
    limits,
};
use repository::Helper;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    artifacts::Artifacts,
    bases::Bases,
    clock::Clock,
    config::Config,
    crash_point::crash_point,
    disk::Disk,
    folder::{Held, Listeners},
    http::{self, Door},
    keys::Keys,
    metrics::Metrics,
    notices::Notices,
    output::Outputs,
    queue::{Queue, StoreError},
    retention::Sweeper,
    source::Source,
    tokens::Tokens,
};

/// How often the reaper looks.
const REAP: Duration = Duration::from_millis(500);
/// How often artifacts are looked for that are not in their final place.
const PLACE: Duration = Duration::from_secs(60);
/// How long requests that are under way may take once the program is to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// What all doors share.
pub struct Coordinator {
    pub(crate) owner_key: Secret,
    pub(crate) task_budget: Usd,
    pub(crate) key_limits: KeyLimits,
    pub(crate) folders: Folders,
    pub(crate) queue: Arc<Queue>,
    pub(crate) outputs: Arc<Outputs>,
    pub(crate) artifacts: Artifacts,
    pub(crate) bases: Bases,
    pub(crate) keys: Keys,
    pub(crate) helper: Helper,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
    /// Cancelled when the database was looked through, and no damage found.
    pub(crate) sound: CancellationToken,
    pub(crate) metrics: Arc<Metrics>,
    disk: Arc<Disk>,
    waiting: Arc<Semaphore>,
}

/// Why the coordinator ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum CannotRun {
    /// The secret's file.
    #[error("{path}: {why}")]
    Secret {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: std::io::Error,
    },
    /// The database.
    #[error("{path}: {why}")]
    Database {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: StoreError,
    },
    /// The client of the gateway.
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// The client of another gateway.
    #[error("{0}")]
    Keys(String),
    /// A door.
    #[error("a door failed: {0}")]
    Door(#[from] std::io::Error),
}

/// Serves all doors until `stop`; then ends what is under way, and returns when all that was acknowledged is on
/// disk.
///
/// # Errors
/// [`CannotRun`].
pub async fn run(
    held: Held,
    listeners: Listeners,
    config: Config,
    stop: CancellationToken,
) -> Result<(), CannotRun> {
    let clock = Clock::start();
    let folders = held.folders.clone();
    let path = folders.data.join("coordinator.secret");
    let tokens =
        Tokens::open(&path).map_err(|why| CannotRun::Secret { path: path.display().to_string(), why })?;
    let coordinator_id = tokens.coordinator_id();
    let outputs = Outputs::new(folders.output());
    let path = folders.coordinator_db();
    let (metrics, max_running) = (Arc::new(Metrics::default()), config.max_running);
    let (queue, held_queues) =
        Queue::open(&path, tokens, outputs.clone(), metrics.clone(), max_running, clock)
            .map_err(|why| CannotRun::Database { path: path.display().to_string(), why })?;
    let disk = Arc::new(Disk::of(folders.data.clone()));
    queue.set_full(disk.is_full());
    let gateway = AdminClient::new(Endpoint::Unix(folders.gateway_admin_socket()))?;
    let helper = Helper::find();
    let coordinator = Arc::new(Coordinator {
        owner_key: config.owner_key,
        task_budget: config.task_budget,
        key_limits: config.key_limits,
        artifacts: Artifacts::new(folders.clone()),
        keys: Keys::of(config.key_source, gateway, &coordinator_id).map_err(CannotRun::Keys)?,
        bases: Bases::open(folders.clone(), helper.clone()),
        helper,
        waiting: Arc::new(Semaphore::new(limits::WAITERS)),
        folders,
        queue,
        outputs,
        clock,
        stop: stop.clone(),
        sound: CancellationToken::new(),
        metrics,
        disk,
    });
    let sweeper = Sweeper {
        queue: coordinator.queue.clone(),
        folders: coordinator.folders.clone(),
        retention: config.retention,
    };
    let background = TaskTracker::new();
    background.spawn(coordinator.source().run(held_queues, stop.clone()));
    background.spawn(coordinator.keys.clone().sweep(coordinator.queue.clone(), stop.clone()));
    if let Keys::Builtin(gateway) = &coordinator.keys {
        let notices = Notices {
            gateway: gateway.clone(),
            queue: coordinator.queue.clone(),
            outputs: coordinator.outputs.clone(),
            clock,
            mark: coordinator.folders.data.join("notices.mark"),
        };
        background.spawn(notices.follow(stop.clone()));
    }
    background.spawn(sweeper.run(clock, stop.clone()));
    background.spawn(coordinator.outputs.clone().keep_flushed(stop.clone()));
    background.spawn(coordinator.clone().keep_time());
    background.close();
    let mut damage = watch_for_damage(&coordinator);
    let served = coordinator.clone().serve(listeners).await;
    stop.cancel();
    background.wait().await;
    let queue = coordinator.queue.clone();
    // Joining it says no more than that it has ended.
    let _ = tokio::task::spawn_blocking(move || queue.close()).await;
    drop(held);
    served?;
    match damage.try_recv() {
        Ok(why) => Err(CannotRun::Database { path: path.display().to_string(), why }),
        Err(_) => Ok(()),
    }
}

/// Looks through the database beside the work; damage ends the program, since what is damaged must not be served. On
/// a thread of its own, which only the owner's requests wait for.
fn watch_for_damage(coordinator: &Coordinator) -> oneshot::Receiver<StoreError> {
    let (queue, stop) = (coordinator.queue.clone(), coordinator.stop.clone());
    let sound = coordinator.sound.clone();
    let (tell, damage) = oneshot::channel();
    let look = move || match queue.check() {
        Ok(()) => sound.cancel(),
        Err(error) => {
            tracing::error!(%error, "the database was looked through");
            // An error means that the program has ended.
            let _ = tell.send(error);
            stop.cancel();
        }
    };
    if let Err(error) = std::thread::Builder::new().name("check".to_owned()).spawn(look) {
        tracing::error!(%error, "the database cannot be looked through");
        coordinator.stop.cancel();
    }
    damage
}

impl Coordinator {
    async fn serve(self: Arc<Self>, listeners: Listeners) -> Result<(), CannotRun> {
        let Listeners { owner_tcp, owner_unix, worker } = listeners;
        let owner_tcp = owner_tcp.tap_io(|stream| {
            // Without it small answers may wait for an acknowledgement.
            let _ = stream.set_nodelay(true);
        });
        let stop = &self.stop;
        let doors = async {
            tokio::try_join!(
                http::run(owner_tcp, http::owner(self.clone(), Door::OwnerTcp), stop.clone()),
                http::run(owner_unix, http::owner(self.clone(), Door::OwnerUnix), stop.clone()),
                http::run(worker, http::worker(self.clone()), stop.clone()),
            )
        };
        let too_late = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_REQUESTS).await;
        };
        tokio::select! {
            served = doors => { served?; }
            () = too_late => tracing::warn!("requests that were under way were cut off"),
        }
        Ok(())
    }

    fn source(&self) -> Source {
        Source {
            queue: self.queue.clone(),
            helper: self.helper.clone(),
            folders: self.folders.clone(),
            artifacts: self.artifacts.clone(),
            clock: self.clock,
            put_off: Arc::default(),
        }
    }

    /// The reaper, and what else time brings.
    async fn keep_time(self: Arc<Self>) {
        let mut reap = interval(REAP);
        let mut place = interval(PLACE);
        reap.set_missed_tick_behavior(MissedTickBehavior::Delay);
        place.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = reap.tick() => {
                    if self.disk.look() {
                        self.queue.set_full(self.disk.is_full());
                    }
                    if let Err(error) = self.queue.reap(self.clock.now()).await {
                        tracing::error!(%error, "the reaper waits for the database");
                    }
                }
                _ = place.tick() => self.place_all().await,
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn place_all(&self) {
        match self.queue.unplaced() {
            Ok(tasks) => {
                for task in tasks {
                    self.place_artifacts(task).await;
                }
            }
            Err(error) => tracing::error!(%error, "artifacts wait for the database"),
        }
    }

    /// Moves an ended task's artifacts to their final place. What fails is tried again later.
    pub(crate) async fn place_artifacts(&self, id: TaskId) {
        let (queue, artifacts, task) = (self.queue.clone(), self.artifacts.clone(), id.clone());
        let placed = tokio::task::spawn_blocking(move || {
            let Some(task) = queue.task(&task)? else { return Ok(()) };
            let placed = artifacts.place(&task.id, task.attempt, &task.artifacts);
            placed.map_err(|error| StoreError::Storage(error.to_string()))
        });
        let done = match placed.await {
            Ok(Ok(())) => {
                crash_point("artifacts.placed");
                self.queue.placed(id.clone()).await
            }
            Ok(Err(error)) => Err(error),
            Err(error) => Err(StoreError::Storage(error.to_string())),
        };
        if let Err(error) = done {
            tracing::warn!(task = %id, %error, "artifacts are not in their final place yet");
        }
    }

    /// Refuses new work where the disk is full.
    pub(crate) fn require_room(&self) -> Result<(), Problem> {
        self.disk.require_room()
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        limits::WAITERS - self.waiting.available_permits()
    }

    /// A place among those who wait.
    pub(crate) fn waiting_turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.waiting.clone().try_acquire_owned().map_err(|_| {
            Problem::new(Code::TooMany, format!("{} requests wait already; come again", limits::WAITERS))
        })
    }
}
