//! Flushing output: before a task's result is committed, and now and then while it runs. Never with a lease, and
//! never under a lock that an append or the writer's thread waits for.

use std::{collections::BTreeSet, fs::File, io, path::PathBuf, sync::Arc, time::Duration};

use protocol::TaskId;
use tokio_util::sync::CancellationToken;

use super::{Open, Outputs, Stream};
use crate::{crash_point::crash_point, queue::locked};

/// How often what has grown is flushed.
const OFTEN: Duration = Duration::from_secs(1);

impl Outputs {
    /// Returns when all that is stored of a task's events is on disk. A disk that fails is told in the log alone:
    /// the result that comes next is worth more than the output. Waits for the disk.
    pub fn flush(self: &Arc<Self>, task: &TaskId) {
        locked(&self.grown).remove(task);
        // A stream with something to flush is among these.
        let Some(stream) = locked(&self.open).get(task).cloned() else { return };
        self.flush_stream(&Open { outputs: self.clone(), task: task.clone(), stream });
    }

    /// Flushes what has grown, a task about once a second, until `stop`; then all of it once more. One task after
    /// another with a pause between: a commit that waits for the disk waits for one task's output at most.
    pub async fn keep_flushed(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let grown = std::mem::take(&mut *locked(&self.grown));
            let pause = OFTEN / u32::try_from(grown.len().max(1)).unwrap_or(u32::MAX);
            if grown.is_empty() {
                wait(pause, &stop).await;
            }
            for (task, stream) in grown {
                self.flush_in_background(task, stream).await;
                wait(pause, &stop).await;
            }
        }
        let last = std::mem::take(&mut *locked(&self.grown));
        for (task, stream) in last {
            self.flush_in_background(task, stream).await;
        }
    }

    async fn flush_in_background(self: &Arc<Self>, task: TaskId, stream: Arc<Stream>) {
        let open = Open { outputs: self.clone(), task, stream };
        let flushed = tokio::task::spawn_blocking(move || open.outputs.clone().flush_stream(&open));
        // An error means that the program ends.
        let _ = flushed.await;
    }

    fn flush_stream(&self, open: &Open) {
        let stream: &Stream = &open.stream;
        // Who comes second waits for what the first one flushes.
        let _turn = locked(&stream.flushing);
        let Some(grown) = locked(&stream.file).as_mut().map(|kept| std::mem::take(&mut kept.grown)) else {
            return;
        };
        if grown.is_empty() {
            return;
        }
        if let Err(error) = sync(&grown) {
            tracing::error!(task = %open.task, %error, "output is not known to be on disk");
            if let Some(kept) = &mut *locked(&stream.file) {
                kept.grown.extend(grown);
            }
            locked(&self.grown).insert(open.task.clone(), open.stream.clone());
            return;
        }
        crash_point("output.flushed");
    }
}

async fn wait(pause: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}

fn sync(paths: &BTreeSet<PathBuf>) -> io::Result<()> {
    for path in paths {
        match File::open(path) {
            Ok(file) => file.sync_data()?,
            // A segment that was dropped since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
