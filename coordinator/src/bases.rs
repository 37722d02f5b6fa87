//! Pinned bases as git bundles, for workers that have no mirror: made by the repository room's helper, once for all
//! that ask, and kept as files for those that ask later.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use protocol::{Code, Problem, QueueName, folders::Folders, limits};
use repository::{CommitId, Helper, RepositoryError};
use tokio::{fs::File, sync::Semaphore, time::timeout};

use crate::queue::{StoreError, locked};

/// Bundles that are made at once.
const AT_ONCE: usize = 2;

/// A bundle on its way; everybody who waits for it has the same answer.
type Making = Shared<BoxFuture<'static, Result<(), Problem>>>;

/// The bundles of all bases.
#[derive(Clone)]
pub struct Bases {
    folders: Folders,
    helper: Helper,
    making: Arc<Mutex<HashMap<PathBuf, Making>>>,
    turns: Arc<Semaphore>,
}

impl Bases {
    /// In the data folder. What an earlier coordinator left there is removed: a bundle is made again when it is
    /// asked for.
    #[must_use]
    pub fn open(folders: Folders, helper: Helper) -> Self {
        remove_all(&folders.bases());
        Self { folders, helper, making: Arc::default(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// A base's bundle, whole, and its bytes.
    ///
    /// # Errors
    /// `base_not_ready` where it takes longer to make than a request waits: it is made all the same;
    /// `base_missing` and `too_large`; `storage_unavailable`; `internal` where git failed.
    pub async fn bundle(&self, repo: &QueueName, base: &CommitId) -> Result<(File, u64), Problem> {
        let path = self.folders.bases_of(repo).join(format!("{base}.bundle"));
        if let Some(found) = find(&path).await? {
            return Ok(found);
        }
        let made = timeout(limits::BASE_WAIT, self.make(&path, repo, base)).await;
        made.unwrap_or_else(|_| Err(not_ready(base)))?;
        // Others that were made meanwhile may have taken its room.
        find(&path).await?.ok_or_else(|| not_ready(base))
    }

    /// Forgets a repository's bundles: another source may come under its name.
    pub async fn forget(&self, repo: &QueueName) {
        let folder = self.folders.bases_of(repo);
        // Joining it says no more than that it has ended.
        let _ = tokio::task::spawn_blocking(move || remove_all(&folder)).await;
    }

    fn make(&self, path: &Path, repo: &QueueName, base: &CommitId) -> Making {
        let mut making = locked(&self.making);
        if let Some(under_way) = making.get(path) {
            return under_way.clone();
        }
        let (bases, repo, base, place) = (self.clone(), repo.clone(), base.clone(), path.to_owned());
        // A task of its own: it goes on when the one who asked goes away.
        let task = tokio::spawn(async move {
            let made = bases.make_at(&place, &repo, &base).await;
            locked(&bases.making).remove(&place);
            made
        });
        let all_wait = async move {
            task.await.unwrap_or_else(|error| {
                Err(Problem::new(Code::Internal, format!("a base's bundle did not end well: {error}")))
            })
        };
        let all_wait = all_wait.boxed().shared();
        making.insert(path.to_owned(), all_wait.clone());
        all_wait
    }

    async fn make_at(&self, path: &Path, repo: &QueueName, base: &CommitId) -> Result<(), Problem> {
        // It is never closed.
        let _turn = self.turns.acquire().await;
        let folder = self.folders.bases_of(repo);
        tokio::fs::create_dir_all(&folder).await.map_err(|error| broken(&folder, &error))?;
        let partial = Partial(path.with_extension("part"));
        let made = self.helper.bundle(&self.folders.mirror(repo), base, &partial.0).await;
        let size = made.map_err(|error| problem(&error))?;
        let all = self.folders.bases();
        let place = path.to_owned();
        let settled = tokio::task::spawn_blocking(move || {
            settle(&partial.0, size, &place)?;
            make_room(&all, limits::BASES_KEPT_BYTES)
        });
        settled
            .await
            .map_err(|error| Problem::new(Code::Internal, error.to_string()))?
            .map_err(|error| broken(path, &error))
    }
}

/// A file that goes with this.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // It has come into its place, or was never made.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn find(path: &Path) -> Result<Option<(File, u64)>, Problem> {
    let found = async {
        let file = File::open(path).await?;
        let size = file.metadata().await?.len();
        let file = file.into_std().await;
        // The ones that were asked for last are kept.
        file.set_modified(SystemTime::now())?;
        Ok((File::from_std(file), size))
    };
    let found: io::Result<_> = found.await;
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(broken(path, &error)),
    }
}

/// A bundle comes into its place only as whole as its maker says it is.
fn settle(partial: &Path, size: u64, place: &Path) -> io::Result<()> {
    let found = std::fs::metadata(partial)?.len();
    if found != size {
        return Err(io::Error::other(format!("{size} bytes were written, and {found} are there")));
    }
    std::fs::rename(partial, place)
}

/// Removes bundles, those that were not asked for longest first, until the rest takes `most` bytes; the last one is
/// kept whatever its size. One that is being read is read to its end.
fn make_room(folder: &Path, most: u64) -> io::Result<()> {
    let mut bundles = Vec::new();
    for repo in std::fs::read_dir(folder)? {
        for entry in std::fs::read_dir(repo?.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "bundle") {
                let metadata = path.metadata()?;
                bundles.push((metadata.modified()?, metadata.len(), path));
            }
        }
    }
    bundles.sort_unstable_by(|one, other| other.cmp(one));
    let mut kept = 0_u64;
    for (place, (_, size, path)) in bundles.into_iter().enumerate() {
        kept += size;
        if place > 0 && kept > most {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn remove_all(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "bundles of bases stay on disk");
        }
        _ => {}
    }
}

fn not_ready(base: &CommitId) -> Problem {
    let why = format!("the bundle of {base} is being made; ask for it again");
    Problem::new(Code::BaseNotReady, why)
}

fn problem(error: &RepositoryError) -> Problem {
    let code = match error.code {
        repository::Code::BaseUnresolvable | repository::Code::MirrorMissing => Code::BaseMissing,
        repository::Code::BundleTooLarge => Code::TooLarge,
        _ => Code::Internal,
    };
    tracing::warn!(%error, "no bundle of a base");
    Problem::new(code, error.to_string())
}

fn broken(path: &Path, error: &io::Error) -> Problem {
    StoreError::Storage(format!("{}: {error}", path.display())).into()
}
