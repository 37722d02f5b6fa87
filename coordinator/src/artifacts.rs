//! Artifacts on disk. An attempt's uploads lie in `artifacts/<task>/.attempt-<n>/`; when its report is accepted
//! they move up to `artifacts/<task>/<name>`, where they stay. No artifact's name begins with a dot.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use protocol::{Code, Problem, TaskId, folders::Folders, ids::ArtifactName, limits, task::Artifact};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::{crash_point::crash_point, queue::StoreError};

/// The folders of all artifacts.
#[derive(Debug, Clone)]
pub struct Artifacts {
    folders: Folders,
}

/// What a worker says of an artifact before it comes.
#[derive(Debug, Clone)]
pub struct Announced {
    /// Its name.
    pub name: ArtifactName,
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
    /// Its bytes, where that is said.
    pub size: Option<u64>,
}

/// An upload that lies on disk, whole and checked, beside its place. Dropped, it is gone.
#[derive(Debug)]
pub struct Received {
    /// What came.
    pub artifact: Artifact,
    partial: Partial,
    place: PathBuf,
}

impl Received {
    /// Comes into its place, for what was there.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub fn settle(self) -> Result<(), Problem> {
        std::fs::rename(&self.partial.0, &self.place).map_err(|error| broken(&self.place, &error))
    }
}

/// A file that goes with this: an upload may be refused, break off, or be dropped at any moment.
#[derive(Debug)]
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // It has come into its place, or was never made.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Artifacts {
    /// In these folders.
    #[must_use]
    pub const fn new(folders: Folders) -> Self {
        Self { folders }
    }

    fn of_attempt(&self, task: &TaskId, attempt: u32) -> PathBuf {
        self.folders.artifacts(task).join(format!(".attempt-{attempt}"))
    }

    /// Takes an upload in: whole, checked and flushed, or not at all. `room` is what it may have, in bytes.
    ///
    /// # Errors
    /// `too_large`, `invalid` where the SHA-256 is another, `bad_request` where the body breaks off, and
    /// `storage_unavailable`.
    pub async fn receive(
        &self,
        task: &TaskId,
        attempt: u32,
        announced: &Announced,
        room: u64,
        body: impl Stream<Item = Result<Bytes, axum::Error>> + Unpin,
    ) -> Result<Received, Problem> {
        if announced.size.is_some_and(|size| size > room) {
            return Err(over(room));
        }
        let folder = self.of_attempt(task, attempt);
        tokio::fs::create_dir_all(&folder).await.map_err(|error| broken(&folder, &error))?;
        let partial = Partial(folder.join(format!(".{}.{}", announced.name, uuid::Uuid::new_v4())));
        let (size, sha256) = write(&partial.0, room, body).await?;
        if sha256 != announced.sha256 {
            let why = format!(
                "{}: {size} bytes came, with SHA-256 {sha256}, and {} was announced; send it again",
                announced.name, announced.sha256
            );
            return Err(Problem::new(Code::Invalid, why));
        }
        let artifact = Artifact { name: announced.name.to_string(), size, sha256 };
        Ok(Received { artifact, partial, place: folder.join(announced.name.as_str()) })
    }

    /// Flushes an attempt's folder: what came into its place is there after a crash too.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn flush(&self, task: &TaskId, attempt: u32) -> Result<(), Problem> {
        let folder = self.of_attempt(task, attempt);
        let flushed = async { tokio::fs::File::open(&folder).await?.sync_all().await };
        flushed.await.map_err(|error| broken(&folder, &error))
    }

    /// Moves an accepted attempt's artifacts to their final place, and removes all other uploads of the task.
    /// Repeated, it does what is left to do. May wait for the disk.
    ///
    /// # Errors
    /// What the disk says.
    pub fn place(&self, task: &TaskId, attempt: u32, accepted: &[Artifact]) -> io::Result<()> {
        let folder = self.folders.artifacts(task);
        for artifact in accepted {
            let from = self.of_attempt(task, attempt).join(&artifact.name);
            match std::fs::rename(&from, folder.join(&artifact.name)) {
                // Moved before.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            crash_point("artifact.placed");
        }
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(".attempt-") {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        std::fs::File::open(&folder)?.sync_all()
    }

    /// Opens an accepted artifact, wherever it lies.
    ///
    /// # Errors
    /// `unknown_artifact` where it is in neither place, `storage_unavailable`.
    pub async fn open(
        &self,
        task: &TaskId,
        attempt: u32,
        name: &ArtifactName,
    ) -> Result<tokio::fs::File, Problem> {
        let place = self.folders.artifacts(task).join(name.as_str());
        let before = self.of_attempt(task, attempt).join(name.as_str());
        // It may move up between the first look and the second.
        for path in [&place, &before, &place] {
            match tokio::fs::File::open(path).await {
                Ok(file) => return Ok(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(broken(path, &error)),
            }
        }
        Err(unknown_artifact(task, name))
    }

    /// Where an accepted artifact lies, for programs that take a path.
    #[must_use]
    pub fn find(&self, task: &TaskId, attempt: u32, name: &str) -> Option<PathBuf> {
        let place = self.folders.artifacts(task).join(name);
        let before = self.of_attempt(task, attempt).join(name);
        [place.clone(), before, place].into_iter().find(|path| path.is_file())
    }
}

/// The problem of an artifact that is not there.
pub(crate) fn unknown_artifact(task: &TaskId, name: &ArtifactName) -> Problem {
    Problem::new(
        Code::UnknownArtifact,
        format!(
            "task {task} has no artifact {name}; `GET /tasks/{task}` lists those that it had, and old ones are removed \
             (retention.artifacts_days)"
        ),
    )
}

fn over(room: u64) -> Problem {
    let why = format!(
        "this artifact may have {room} bytes: one may have {}, and all of a task {}",
        limits::ARTIFACT_BYTES,
        limits::TASK_ARTIFACT_BYTES
    );
    Problem::new(Code::TooLarge, why)
}

/// Writes a body to a new file and flushes it; its size and SHA-256.
async fn write(
    path: &Path,
    room: u64,
    mut body: impl Stream<Item = Result<Bytes, axum::Error>> + Unpin,
) -> Result<(u64, String), Problem> {
    // At once: made on another thread, it might come to be after its guard is gone.
    let file = std::fs::File::create_new(path).map_err(|error| broken(path, &error))?;
    let mut file = tokio::fs::File::from_std(file);
    let (mut size, mut hasher) = (0_u64, Sha256::new());
    while let Some(chunk) = body.next().await {
        let chunk = chunk
            .map_err(|error| Problem::new(Code::BadRequest, format!("the upload broke off: {error}")))?;
        size += chunk.len() as u64;
        if size > room {
            return Err(over(room));
        }
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(|error| broken(path, &error))?;
    }
    file.flush().await.map_err(|error| broken(path, &error))?;
    file.sync_all().await.map_err(|error| broken(path, &error))?;
    Ok((size, hex::encode(hasher.finalize())))
}

fn broken(path: &Path, error: &io::Error) -> Problem {
    StoreError::Storage(format!("{}: {error}", path.display())).into()
}
