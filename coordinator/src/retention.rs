//! Removes what ended long ago, in the background and a little at a time: first the files, then the rows, so that a
//! crash between the two leaves nothing that nobody knows of.

use std::{io, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use protocol::{TaskId, folders::Folders};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::Retention,
    crash_point::crash_point,
    output,
    queue::{Kind, Queue, StoreError},
};

/// How often it looks.
const LOOK: Duration = Duration::from_secs(600);

/// Keeps the past within its bounds.
#[derive(Clone)]
pub struct Sweeper {
    /// The tasks.
    pub queue: Arc<Queue>,
    /// Where their files lie.
    pub folders: Folders,
    /// For how long.
    pub retention: Retention,
}

impl Sweeper {
    /// Sweeps now and then, until `stop`.
    pub async fn run(self, clock: Clock, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.sweep(clock.now(), &stop).await {
                tracing::warn!(%error, "what ended long ago could not be removed");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Removes what is over its time at `now`.
    ///
    /// # Errors
    /// The store's, and what the disk says.
    pub async fn sweep(&self, now: Timestamp, stop: &CancellationToken) -> Result<(), StoreError> {
        for (kind, days) in
            [(Kind::Output, self.retention.output), (Kind::Artifacts, self.retention.artifacts)]
        {
            if let Some(before) = days.before(now) {
                self.sweep_files(kind, before, stop).await?;
            }
        }
        let Some(before) = self.retention.tasks.before(now) else { return Ok(()) };
        while !stop.is_cancelled() {
            let tasks = self.queue.forgettable(before)?;
            if tasks.is_empty() {
                return self.queue.forget_workers(before).await;
            }
            for kind in [Kind::Output, Kind::Artifacts] {
                self.remove(kind, tasks.clone()).await?;
            }
            crash_point("retention.removed");
            tracing::info!(tasks = tasks.len(), "tasks that ended long ago are forgotten");
            self.queue.forget(tasks).await?;
        }
        Ok(())
    }

    async fn sweep_files(
        &self,
        kind: Kind,
        before: Timestamp,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut cursor = None;
        loop {
            let ended = self.queue.unswept(kind, before, cursor)?;
            let Some((last, _)) = ended.last() else { break };
            cursor = Some(*last);
            self.remove(kind, ended.into_iter().map(|(_, task)| task).collect()).await?;
            if stop.is_cancelled() {
                return Ok(());
            }
        }
        if let Some((ended_at, _)) = cursor {
            let upto = Timestamp::from_millisecond(ended_at).unwrap_or(Timestamp::MIN);
            self.queue.set_swept(kind, upto).await?;
        }
        Ok(())
    }

    async fn remove(&self, kind: Kind, tasks: Vec<TaskId>) -> Result<(), StoreError> {
        let folders = self.folders.clone();
        let removed = tokio::task::spawn_blocking(move || {
            for task in &tasks {
                let (path, removed) = match kind {
                    Kind::Output => {
                        (folders.output().join(task.as_str()), output::remove(&folders.output(), task))
                    }
                    Kind::Artifacts => {
                        let path = folders.artifacts(task);
                        let removed = std::fs::remove_dir_all(&path);
                        (path, removed)
                    }
                };
                gone(removed, &path)?;
            }
            Ok(())
        });
        removed.await.map_err(|error| StoreError::Storage(error.to_string()))?
    }
}

/// What is not there needs no removing.
fn gone(removed: io::Result<()>, path: &Path) -> Result<(), StoreError> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|error| StoreError::Storage(format!("{}: {error}", path.display()))),
    }
}
