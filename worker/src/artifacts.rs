//! Files that go with the report: saved into the outbox, with their size and hash, from pipes alone.

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use protocol::{limits, task::Artifact};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::{self, File},
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter},
    time::timeout,
};

use crate::{agent_user, helper::FileHeader, outbox, places::Places};

/// Names that are ours.
pub const OWN: [&str; 3] = ["patch", "bundle", LOG];
/// The name of the whole output.
pub const LOG: &str = "log";
/// Bytes of a line before a file.
const HEADER_BYTES: u64 = 16 * 1024;
/// How long all files together may take: the agent's user reads them, from a tree of the agent's making.
const COLLECT_WITHIN: Duration = Duration::from_secs(120);
/// How long one of them may take. An emulated machine takes 100 MB in half a minute.
const COPY_WITHIN: Duration = Duration::from_secs(90);

/// Bytes that are written at once.
const WRITE_BYTES: usize = 1 << 20;

/// The folder of artifacts in the outbox, and what may still go into it.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    left: AtomicU64,
}

impl Store {
    /// An empty folder, made if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, left: AtomicU64::new(limits::TASK_ARTIFACT_BYTES) })
    }

    /// Where an artifact lies.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Saves all that comes, up to the limit of one artifact and of all together.
    ///
    /// # Errors
    /// When it is over a limit, or what the reader or the disk says. A part may be there: see
    /// [`Store::discard`].
    pub async fn save(&self, name: &str, from: &mut (dyn AsyncRead + Unpin + Send)) -> io::Result<Artifact> {
        let most = limits::ARTIFACT_BYTES.min(self.left.load(Ordering::Relaxed));
        // Each write of a file is handed to another thread: few large ones.
        let file = File::from_std(outbox::create(&self.path(name))?);
        let mut file = BufWriter::with_capacity(WRITE_BYTES, file);
        let (mut hash, mut size, mut buffer) = (Sha256::new(), 0_u64, vec![0; 64 * 1024]);
        loop {
            let read = from.read(&mut buffer).await?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            size += read as u64;
            if size > most {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("is over {most} bytes")));
            }
            hash.update(bytes);
            file.write_all(bytes).await?;
        }
        file.flush().await?;
        self.left.fetch_sub(size, Ordering::Relaxed);
        Ok(Artifact { name: name.to_owned(), size, sha256: hex::encode(hash.finalize()) })
    }

    /// Removes what was saved of an artifact that was not to be.
    pub async fn discard(&self, name: &str) {
        let _ = fs::remove_file(self.path(name)).await;
    }
}

/// Saves the files that the agent left for us, in bounded time, beside the artifacts that are there. Answers what
/// was left out and why.
pub async fn collect(places: &Places, store: &Store, artifacts: &mut Vec<Artifact>) -> Vec<String> {
    let mut notes = Vec::new();
    let collected = timeout(COLLECT_WITHIN, collect_into(places, store, artifacts, &mut notes)).await;
    if let Err(error) = collected.unwrap_or_else(|_| Err(too_slow(COLLECT_WITHIN))) {
        notes.push(format!("not all of {} was taken: {error}", super::git::ARTIFACTS));
    }
    notes
}

async fn collect_into(
    places: &Places,
    store: &Store,
    artifacts: &mut Vec<Artifact>,
    notes: &mut Vec<String>,
) -> io::Result<()> {
    let mut command = agent_user::command(places, &places.helper);
    let mut child = command.arg("list-files").arg(places.artifacts()).stdout(Stdio::piped()).spawn()?;
    let Some(out) = child.stdout.take() else { return Ok(()) };
    let mut out = BufReader::new(out);
    let mut taken: BTreeSet<String> = OWN.map(str::to_owned).into();
    let mut seen = 0;
    while let Some(header) = next_header(&mut out).await? {
        // A file that is refused counts too: there may be any number of them.
        if seen == limits::TASK_ARTIFACTS - OWN.len() {
            notes.push(format!("{}: there are more than {} artifacts", header.path, limits::TASK_ARTIFACTS));
            break;
        }
        seen += 1;
        let Some(follow) = header.follow() else {
            notes.push(format!("{}: is over {} bytes", header.path, limits::ARTIFACT_BYTES));
            continue;
        };
        let name = free_name(&header.path, &taken);
        let mut content = (&mut out).take(follow);
        let copy = async {
            let saved = store.save(&name, &mut content).await;
            // To the next header, also when the file was not wanted.
            tokio::io::copy(&mut content, &mut tokio::io::sink()).await.map(|_| saved)
        };
        let copied = timeout(COPY_WITHIN, copy).await.unwrap_or_else(|_| Err(too_slow(COPY_WITHIN)));
        match copied {
            Ok(Ok(artifact)) => {
                taken.insert(name);
                artifacts.push(artifact);
            }
            Ok(Err(error)) => {
                store.discard(&name).await;
                notes.push(format!("{}: {error}", header.path));
            }
            Err(error) => {
                store.discard(&name).await;
                return Err(error);
            }
        }
    }
    Ok(())
}

fn too_slow(within: Duration) -> io::Error {
    let text = format!("it took more than {} s", within.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

async fn next_header(out: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> io::Result<Option<FileHeader>> {
    let mut line = Vec::new();
    out.take(HEADER_BYTES).read_until(b'\n', &mut line).await?;
    if line.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_slice(&line)?)) }
}

/// A name of [`protocol::ids::ArtifactName`]'s form that is like the path, and not taken.
fn free_name(path: &str, taken: &BTreeSet<String>) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = path.chars().map(plain).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let mut name = if name.is_empty() { "file" } else { name };
    // Room for the number.
    name = name.get(name.len().saturating_sub(limits::TASK_ID_CHARS - 4)..).unwrap_or(name);
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_plain_and_different() {
        let mut taken: BTreeSet<String> = OWN.map(str::to_owned).into();
        for (path, name) in [
            ("report.html", "report.html"),
            ("log", "log-2"),
            ("a/b.txt", "a_b.txt"),
            ("a_b.txt", "a_b.txt-2"),
            ("../../é", "file"),
            (".hidden", "hidden"),
        ] {
            let free = free_name(path, &taken);
            assert_eq!(free, name);
            assert!(free.parse::<protocol::ids::ArtifactName>().is_ok());
            taken.insert(free);
        }
        let long = free_name(&"x/".repeat(400), &taken);
        assert!(long.parse::<protocol::ids::ArtifactName>().is_ok(), "{long}");
    }
}
