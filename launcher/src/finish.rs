//! The end of a sandbox, from nothing but its folder: destroyed, delivered, told, removed. Can be done again from
//! the start when it was interrupted.

use std::io;
use std::path::Path;
use std::time::Duration;

use protocol::client::ClientError;
use protocol::inside::WorkerConfig;
use protocol::problem::Code;
use protocol::worker::WorkerEnd;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::deliver::deliver;
use crate::folder::{SandboxFolder, Watch};
use crate::outbox;
use crate::settings::Home;

/// How often what could not be delivered is tried again, with the waits between: about ten minutes in all. After
/// that the folder stays, and the next launcher of the queue goes on with it.
const TRIES: u32 = 70;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Why something is left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FinishError {
    #[error(transparent)]
    Destroy(#[from] sandbox::DestroyError),
    #[error("what the sandbox left could not be delivered: {0}; the next launcher of this queue tries again")]
    Deliver(ClientError),
    #[error(transparent)]
    Folder(#[from] io::Error),
}

/// Ends the sandbox in `folder`, which the caller watches.
pub(crate) async fn finish(folder: &SandboxFolder, home: &Home, end: &WorkerEnd) -> Result<(), FinishError> {
    // Without a plan nothing was started yet.
    if let Ok(plan) = folder.plan() {
        sandbox::destroy(&folder.sandbox(), &plan.policy.id, &plan.runtime).await?;
    }
    outbox::can_be_read(folder.outbox().folder())?;
    if let Ok(worker) = folder.worker() {
        let mut wait = FIRST_WAIT;
        for tries in 1.. {
            match hand_over(folder, home, &worker, end).await {
                Ok(()) => break,
                // Who never had a task owes nothing to a coordinator that is gone.
                Err(error) if error.is_passing() && !folder.outbox().lease().exists() => break,
                Err(error) if error.is_passing() && tries < TRIES => tracing::info!(%error, "tries again"),
                Err(error) => return Err(FinishError::Deliver(error)),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
    Ok(folder.remove()?)
}

/// What the outbox holds, then the end: in this order, because the end takes the lease.
async fn hand_over(
    folder: &SandboxFolder,
    home: &Home,
    worker: &WorkerConfig,
    end: &WorkerEnd,
) -> Result<(), ClientError> {
    deliver(&folder.outbox(), &home.folders.worker_socket(), &worker.token).await?;
    match home.owner()?.end_worker(&worker.worker_id, end).await {
        Err(error) if error.code() == Some(Code::UnknownWorker) => Ok(()),
        told => told,
    }
}

/// The end of a worker whose keeper died, so that nobody knows how it went.
pub(crate) fn nobody_knows() -> WorkerEnd {
    WorkerEnd { exit: None, reason: "killed".to_owned() }
}

/// Finishes every sandbox of this queue that nobody looks after, each in its own task; they end when the set is
/// dropped, and the next launcher goes on.
pub(crate) fn sweep(home: &Home, queue: &protocol::QueueName) -> JoinSet<()> {
    let mut sweeping = JoinSet::new();
    for folder in SandboxFolder::all(&home.folders.sandboxes()) {
        // Before its lock is touched: whose it is may want it at this moment.
        let ours = match folder.worker() {
            Ok(worker) => worker.queue == *queue,
            // Not even that was written: its maker died at once, or is at it.
            Err(_) => !folder.is_young(),
        };
        if !ours {
            continue;
        }
        let home = home.clone();
        match folder.take_over() {
            Ok(Some(watch)) => drop(sweeping.spawn(clear(folder, home, watch))),
            // Its keeper is there, and may die before it is done.
            Ok(None) => clear_later(folder, home),
            Err(error) => tracing::warn!(folder = %folder.path().display(), %error, "cannot be taken over"),
        }
    }
    sweeping
}

/// Finishes one that is taken over.
async fn clear(folder: SandboxFolder, home: Home, watch: Watch) {
    if let Err(error) = finish(&folder, &home, &nobody_knows()).await {
        tracing::warn!(folder = %folder.path().display(), %error, "something is left of a sandbox");
    }
    drop(watch);
}

/// Finishes one whose keeper is still there, as soon as that has died, so that its task need not wait until its lease
/// is over. A thread waits for the lock; it ends with this process.
fn clear_later(folder: SandboxFolder, home: Home) {
    let runtime = Handle::current();
    let wait = move || match folder.take_over_later() {
        Ok(Some(watch)) => drop(runtime.spawn(clear(folder, home, watch))),
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(folder = %folder.path().display(), %error, "nobody waits for its keeper's end");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("sweep".to_owned()).spawn(wait) {
        tracing::warn!(%error, "nobody waits for another keeper's end");
    }
}

/// Removes the stores of `/work` whose sandbox has no folder any more: the run folder may be in memory, and gone with
/// the machine's last start. A store that is young may be one of another run folder's sandboxes.
pub(crate) fn sweep_stores(home: &Home, stores: &Path) {
    for store in SandboxFolder::all(stores) {
        let kept = store.path().file_name().is_some_and(|name| home.folders.sandboxes().join(name).exists());
        if kept || store.is_young() {
            continue;
        }
        match store.remove() {
            Ok(()) => tracing::info!(store = %store.path().display(), "its sandbox is gone"),
            Err(error) => tracing::warn!(store = %store.path().display(), %error, "cannot be removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::tests::write_report;
    use crate::folder::of_worker;
    use crate::test_door::{Came, Door};
    use protocol::client::Endpoint;
    use protocol::folders::Folders;
    use protocol::inside::SandboxLimits;
    use protocol::{QueueName, Secret};
    use rustix::fs::inotify;

    #[tokio::test]
    async fn a_report_that_is_refused_for_good_keeps_no_folder() {
        let place = tempfile::tempdir().unwrap();
        let home = home(place.path());
        let (owner, worker) = (home.folders.owner_socket(), home.folders.worker_socket());
        let door = Door::open(&[&owner, &worker], Vec::new(), Some(Code::Invalid));
        let (folder, _watch) = made(&home, "refused", &"demo".parse().unwrap());
        write_report(&folder.outbox());
        finish(&folder, &home, &nobody_knows()).await.unwrap();
        assert_eq!(door.came(), [Came::Result, Came::End]);
        assert!(!folder.path().exists());
    }

    fn home(folder: &Path) -> Home {
        let run = folder.to_owned();
        let folders = Folders { config: run.clone(), data: run.clone(), run };
        Home {
            coordinator: Endpoint::Unix(folders.owner_socket()),
            folders,
            key: Secret::new("key"),
            keys: protocol::settings::KeySource::Builtin,
        }
    }

    fn made(home: &Home, id: &str, queue: &QueueName) -> (SandboxFolder, Watch) {
        let worker = WorkerConfig {
            worker_id: id.parse().unwrap(),
            queue: queue.clone(),
            token: Secret::new("t"),
            default_agent: "opencode".parse().unwrap(),
            limits: SandboxLimits::default(),
        };
        let folder = of_worker(&home.folders, &worker.worker_id);
        let watch = folder.make(&worker).unwrap();
        (folder, watch)
    }

    /// Whoever asks for a folder's lock makes its file.
    fn was_asked_for(folder: &SandboxFolder) -> bool {
        folder.path().join("lock").exists()
    }

    #[tokio::test]
    async fn only_what_nobody_makes_or_keeps_for_this_queue_is_swept() {
        let place = tempfile::tempdir().unwrap();
        let home = home(place.path());
        let (queue, other): (QueueName, QueueName) = ("demo".parse().unwrap(), "other".parse().unwrap());
        let make = |id: &str, queue: &QueueName| made(&home, id, queue);
        let (kept, _watch) = make("kept", &queue);
        assert!(kept.take_over().unwrap().is_none(), "its maker looks after it from the start");
        let (elsewhere, watch) = make("elsewhere", &other);
        drop(watch);
        std::fs::remove_file(elsewhere.path().join("lock")).unwrap();
        let young = SandboxFolder::at(home.folders.sandboxes().join("young"));
        let old = SandboxFolder::at(home.folders.sandboxes().join("old"));
        for folder in [&young, &old] {
            std::fs::create_dir(folder.path()).unwrap();
        }
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(61);
        std::fs::File::open(old.path()).unwrap().set_modified(long_ago).unwrap();
        let _sweeping = sweep(&home, &queue);
        assert!(!was_asked_for(&young), "it may be half-made");
        assert!(!was_asked_for(&elsewhere), "its keeper may want the lock just now");
        assert!(was_asked_for(&old));
        assert!(kept.path().exists());
    }

    #[tokio::test]
    async fn what_a_dying_keeper_still_holds_is_finished_when_it_lets_go() {
        let place = tempfile::tempdir().unwrap();
        let home = home(place.path());
        let (owner, worker) = (home.folders.owner_socket(), home.folders.worker_socket());
        let door = Door::open(&[&owner, &worker], Vec::new(), None);
        let queue = "demo".parse().unwrap();
        let (folder, watch) = made(&home, "dying", &queue);
        let mut sweeping = sweep(&home, &queue);
        assert!(sweeping.join_next().await.is_none(), "it is still kept");
        assert!(folder.path().exists() && door.came().is_empty());
        let (sender, mut gone) = tokio::sync::mpsc::channel(1);
        let notify = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&notify, folder.path(), inotify::WatchFlags::DELETE_SELF).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
            let _ = inotify::Reader::new(notify, &mut buffer).next();
            let _ = sender.blocking_send(());
        });
        drop(watch);
        tokio::time::timeout(Duration::from_secs(30), gone.recv()).await.unwrap().unwrap();
        assert_eq!(door.came(), [Came::End]);
    }

    #[test]
    fn a_store_without_its_sandbox_is_removed_when_it_is_old() {
        let place = tempfile::tempdir().unwrap();
        let home = home(place.path());
        let stores = place.path().join("stores");
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(61);
        for (name, old) in [("kept", true), ("young", false), ("gone", true)] {
            std::fs::create_dir_all(stores.join(name)).unwrap();
            if old {
                std::fs::File::open(stores.join(name)).unwrap().set_modified(long_ago).unwrap();
            }
        }
        std::fs::create_dir_all(home.folders.sandboxes().join("kept")).unwrap();
        sweep_stores(&home, &stores);
        let left: std::collections::BTreeSet<_> =
            std::fs::read_dir(&stores).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept", "young"].map(Into::into).into());
    }
}
