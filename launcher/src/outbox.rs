//! Reads an outbox as what it is: files that something inside a sandbox may have made, links and pipes
//! included. Nothing outside the folder is ever opened.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use protocol::ids::ArtifactName;
use protocol::inside::{EventsFile, HeldReport, LeaseNote, Outbox};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2, renameat};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

/// A lease or a report is never larger: a report's texts have limits of their own in `protocol::limits`.
const JSON_BYTES: u64 = 4 << 20;
/// Files of events are never more: a worker's have megabytes each.
const EVENTS_FILES: usize = 1_000;

/// Whether this process can look into outboxes below `folder` at all.
///
/// # Errors
/// Where it may not: an outbox that cannot be read is not an empty one.
pub(crate) fn can_be_read(folder: &Path) -> io::Result<()> {
    match open_beneath(&Outbox::at(folder), &folder.join("."), OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(why) => Err(io::Error::other(format!(
            "what sandboxes leave in {} cannot be looked into: openat2: {why}; a service with RestrictSUIDSGID= or a \
             system call filter may not call it: take that out of its unit",
            folder.display()
        ))),
        Ok(_) => Ok(()),
    }
}

/// The lease that the worker has or had; one that cannot be read is told, and none.
pub(crate) fn lease(outbox: &Outbox) -> Option<LeaseNote> {
    read_lease(outbox).unwrap_or_else(|error| {
        tracing::warn!(%error, outbox = %outbox.folder().display(), "its lease cannot be read");
        None
    })
}

fn read_lease(outbox: &Outbox) -> io::Result<Option<LeaseNote>> {
    read(outbox, &outbox.lease())
}

/// The report that the worker made.
pub(crate) fn report(outbox: &Outbox) -> io::Result<Option<HeldReport>> {
    read(outbox, &outbox.report())
}

/// Whether the report needs no delivery any more.
pub(crate) fn is_delivered(outbox: &Outbox) -> bool {
    outbox.delivered().symlink_metadata().is_ok()
}

/// Notes that it needs none.
pub(crate) fn mark_delivered(outbox: &Outbox) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(outbox.delivered()).map(drop)
}

/// An artifact, opened. Its path is good as long as the file is open.
pub(crate) struct OpenArtifact(File);

impl OpenArtifact {
    pub(crate) fn open(outbox: &Outbox, name: &ArtifactName) -> io::Result<Self> {
        let path = outbox.artifacts().join(name.as_str());
        open(outbox, &path)?.map(Self).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Bytes.
    pub(crate) fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// The folder of events that the worker wrote down, opened.
pub(crate) struct EventsFolder<'a> {
    outbox: &'a Outbox,
    folder: File,
}

impl<'a> EventsFolder<'a> {
    /// `None` when there is none.
    pub(crate) fn open(outbox: &'a Outbox) -> io::Result<Option<Self>> {
        let folder = open_beneath(outbox, &outbox.events(), OFlags::DIRECTORY)?;
        Ok(folder.map(|folder| Self { outbox, folder }))
    }

    /// The names of its files, in order.
    pub(crate) fn files(&self) -> io::Result<VecDeque<EventsFile>> {
        let mut found = BTreeSet::new();
        for entry in
            std::fs::read_dir(format!("/proc/self/fd/{}", self.folder.as_raw_fd()))?.take(EVENTS_FILES)
        {
            found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<EventsFile>().ok()));
        }
        Ok(found.into_iter().collect())
    }

    /// One of them.
    pub(crate) fn file(&self, name: EventsFile) -> io::Result<File> {
        let path = self.outbox.events().join(name.to_string());
        open(self.outbox, &path)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Gives one of them another name.
    pub(crate) fn rename(&self, from: EventsFile, to: EventsFile) -> io::Result<()> {
        Ok(renameat(&self.folder, from.to_string(), &self.folder, to.to_string())?)
    }
}

fn read<T: DeserializeOwned>(outbox: &Outbox, path: &Path) -> io::Result<Option<T>> {
    let Some(file) = open(outbox, path)? else { return Ok(None) };
    let mut text = Vec::new();
    file.take(JSON_BYTES).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// `None` when there is no such file; an error for anything that is no plain file in the outbox.
fn open(outbox: &Outbox, path: &Path) -> io::Result<Option<File>> {
    // Not blocking: a pipe would wait for somebody to write to it.
    let Some(file) = open_beneath(outbox, path, OFlags::NONBLOCK)? else { return Ok(None) };
    if file.metadata()?.is_file() { Ok(Some(file)) } else { Err(io::Error::other("not a plain file")) }
}

fn open_beneath(outbox: &Outbox, path: &Path, flags: OFlags) -> io::Result<Option<File>> {
    let folder = File::open(outbox.folder())?;
    let name = path.strip_prefix(outbox.folder()).map_err(io::Error::other)?;
    let name = if name == Path::new("") { Path::new(".") } else { name };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(&folder, name, flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NOENT) => Ok(None),
        file => Ok(Some(File::from(file?))),
    }
}

/// Tells when something in the outbox was written whole or renamed. The watch ends with the process.
pub(crate) fn changes(outbox: &Outbox) -> io::Result<mpsc::Receiver<()>> {
    let notify = inotify::init(CreateFlags::CLOEXEC)?;
    inotify::add_watch(&notify, outbox.folder(), WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO)?;
    let (sender, receiver) = mpsc::channel(1);
    std::thread::Builder::new().name("outbox".to_owned()).spawn(move || {
        let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
        let mut reader = inotify::Reader::new(notify, &mut buffer);
        // A change that finds the last one not yet read says nothing new.
        while reader.next().is_ok() {
            if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                return;
            }
        }
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::inside::HeldLease;
    use std::os::unix::fs::symlink;

    fn outbox() -> (tempfile::TempDir, Outbox) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::at(folder.path().join("outbox"));
        std::fs::create_dir_all(outbox.artifacts()).unwrap();
        (folder, outbox)
    }

    #[test]
    fn reads_what_a_worker_wrote() {
        let (_folder, outbox) = outbox();
        assert!(lease(&outbox).is_none());
        let held =
            HeldLease { task: "task-1".parse().unwrap(), token: protocol::Secret::new("t"), attempt: 2 };
        for timeout_s in [None, Some(5)] {
            let note = LeaseNote { lease: held.clone(), timeout_s };
            std::fs::write(outbox.lease(), serde_json::to_vec(&note).unwrap()).unwrap();
            assert_eq!(lease(&outbox), Some(note));
        }
    }

    #[test]
    fn never_follows_a_link_out_nor_waits_at_a_pipe() {
        let (folder, outbox) = outbox();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "{}").unwrap();
        let name: ArtifactName = "log".parse().unwrap();
        symlink(&secret, outbox.artifacts().join("log")).unwrap();
        assert!(OpenArtifact::open(&outbox, &name).is_err());
        std::fs::remove_dir_all(outbox.artifacts()).unwrap();
        symlink(folder.path(), outbox.artifacts()).unwrap();
        assert!(OpenArtifact::open(&outbox, &"secret".parse().unwrap()).is_err());
        rustix::fs::mknodat(
            rustix::fs::CWD,
            outbox.report(),
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(report(&outbox).is_err());
        symlink(&secret, outbox.lease()).unwrap();
        assert!(read_lease(&outbox).is_err(), "it is not read as none");
    }

    #[test]
    fn a_folder_that_cannot_be_looked_into_is_no_empty_one() {
        let (folder, outbox) = outbox();
        can_be_read(outbox.folder()).unwrap();
        can_be_read(&outbox.folder().join("not-there")).unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let told = can_be_read(&file).unwrap_err().to_string();
        assert!(told.contains("openat2") && told.contains("RestrictSUIDSGID="), "{told}");
    }

    #[tokio::test]
    async fn tells_of_a_renamed_file() {
        let (_folder, outbox) = outbox();
        let mut changes = changes(&outbox).unwrap();
        let draft = outbox.artifacts().join("draft");
        std::fs::write(&draft, "{}").unwrap();
        std::fs::rename(&draft, outbox.lease()).unwrap();
        let changed = tokio::time::timeout(std::time::Duration::from_secs(10), changes.recv()).await;
        assert_eq!(changed, Ok(Some(())));
    }
}
