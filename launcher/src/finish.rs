//! The end of a sandbox, from nothing but its folder: destroyed, delivered, told, removed. Can be done again from
//! the start when it was interrupted.

use std::io;
use std::time::Duration;

use protocol::client::ClientError;
use protocol::inside::WorkerConfig;
use protocol::problem::Code;
use protocol::worker::WorkerEnd;

use crate::deliver::deliver;
use crate::folder::SandboxFolder;
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
        sandbox::destroy(&folder.sandbox(), &plan.policy.id).await?;
    }
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

/// Finishes every sandbox of this queue that nobody looks after, each in its own task.
pub(crate) fn sweep(home: &Home, queue: &protocol::QueueName) {
    for folder in SandboxFolder::all(&home.folders.sandboxes()) {
        let ours = match folder.worker() {
            Ok(worker) => worker.queue == *queue,
            // Not even that was written: its maker died at once.
            Err(_) => true,
        };
        let Ok(Some(watch)) = folder.take_over() else { continue };
        if ours {
            let home = home.clone();
            tokio::spawn(async move {
                if let Err(error) = finish(&folder, &home, &nobody_knows()).await {
                    tracing::warn!(folder = %folder.path().display(), %error, "something is left of a sandbox");
                }
                drop(watch);
            });
        }
    }
}
