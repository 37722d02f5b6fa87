//! The images on this machine: one unpacked folder a digest, and names that stand for them.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use protocol::{
    folders::Folders,
    ids::ImageName,
    image::{Digest, Image},
};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::unpack::unpack;
use crate::failure::{Exit, Failure};

/// How the folders begin that are not whole yet.
const HALF_MADE: &str = ".unpacking-";

/// Where they lie.
pub(super) struct Store<'a> {
    folders: &'a Folders,
}

impl<'a> Store<'a> {
    pub(super) fn of(folders: &'a Folders) -> Self {
        Self { folders }
    }

    /// Unpacks a tar, unless the same is here already.
    pub(super) fn take_in(&self, tar: &mut dyn Read) -> Result<Digest, Failure> {
        let images = self.folders.images();
        let told = |error: &io::Error| failed(&images.display().to_string(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(&images).map_err(|error| told(&error))?;
        sweep(&images);
        let half =
            tempfile::Builder::new().prefix(HALF_MADE).tempdir_in(&images).map_err(|error| told(&error))?;
        // Let go by the kernel when this process dies: then the next one clears away.
        let held = File::open(half.path()).map_err(|error| told(&error))?;
        flock(&held, FlockOperation::NonBlockingLockExclusive).map_err(|error| told(&error.into()))?;
        let digest = unpack(tar, &half.path().join("root"))?;
        self.put(half, &digest).map_err(|error| told(&error))?;
        Ok(digest)
    }

    fn put(&self, half: TempDir, digest: &Digest) -> io::Result<()> {
        let whole = self.folders.images().join(digest.to_string());
        match fs::rename(half.path(), &whole) {
            Ok(()) => {
                // It has another name now, and stays.
                let _ = half.keep();
                Ok(())
            }
            Err(_) if whole.is_dir() => remove_tree(half.path()),
            Err(error) => Err(error),
        }
    }

    /// Lets a name stand for a digest from now on.
    pub(super) fn name(
        &self,
        name: &ImageName,
        digest: &Digest,
        path: Option<String>,
    ) -> Result<(), Failure> {
        let file = self.folders.image(name);
        let write = || {
            let image = Image { digest: digest.clone(), path };
            let mut new = tempfile::NamedTempFile::new_in(self.folders.images())?;
            serde_json::to_writer(&mut new, &image)?;
            new.as_file().sync_all()?;
            new.persist(&file).map(|_| ()).map_err(|error| error.error)
        };
        write().map_err(|error: io::Error| failed(&file.display().to_string(), &error))
    }

    /// All names, in their order.
    pub(super) fn list(&self) -> Result<Vec<(ImageName, Image)>, Failure> {
        let images = self.folders.images();
        let entries = match fs::read_dir(&images) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| failed(&images.display().to_string(), &error))?,
        };
        let mut all = Vec::new();
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
            let Some(name) = name else { continue };
            let image = fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?));
            all.push((name, image.map_err(|error| failed(&path.display().to_string(), &error))?));
        }
        all.sort_by(|(one, _), (other, _): &(ImageName, Image)| one.cmp(other));
        Ok(all)
    }

    /// Forgets a name; answers whether the files went too.
    pub(super) fn remove(&self, name: &ImageName) -> Result<bool, Failure> {
        let all = self.list()?;
        let Some((_, image)) = all.iter().find(|(there, _)| there == name) else {
            let text = format!("no image {name} is here\nthose that are: code-workers image list");
            return Err(Failure::new(Exit::Refused, text));
        };
        let file = self.folders.image(name);
        fs::remove_file(&file).map_err(|error| failed(&file.display().to_string(), &error))?;
        let root = self.folders.image_root(&image.digest);
        if all.iter().any(|(other, of)| other != name && of.digest == image.digest) || self.in_use(&root) {
            return Ok(false);
        }
        let folder = self.folders.images().join(image.digest.to_string());
        remove_tree(&folder).map_err(|error| failed(&folder.display().to_string(), &error))?;
        Ok(true)
    }

    /// Whether a sandbox's plan names it.
    fn in_use(&self, root: &Path) -> bool {
        let plans = fs::read_dir(self.folders.sandboxes()).into_iter().flatten();
        let plans = plans.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("plan.json")).ok());
        let root = serde_json::Value::from(root.to_string_lossy()).to_string();
        plans.into_iter().any(|plan| plan.contains(&root))
    }
}

/// Removes what a process left that died while it unpacked.
fn sweep(images: &Path) {
    let left = fs::read_dir(images).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    for folder in left.filter(|path| is_half_made(path)) {
        let free = File::open(&folder)
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
        if free {
            // The next one tries again.
            let _ = remove_tree(&folder);
        }
    }
}

fn is_half_made(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(HALF_MADE))
}

/// A plain user can only empty folders that it may write, and an image may hold others.
fn remove_tree(folder: &Path) -> io::Result<()> {
    fn open(folder: &Path) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let folders: Vec<PathBuf> = fs::read_dir(folder)?
            .filter_map(|entry| entry.ok().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())))
            .map(|entry| entry.path())
            .collect();
        folders.iter().try_for_each(|folder| open(folder))
    }
    open(folder)?;
    fs::remove_dir_all(folder)
}

pub(super) fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{what}: {error}"))
}
