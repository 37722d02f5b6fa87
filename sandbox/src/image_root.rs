//! An unpacked image as the root of sandboxes: its top folders are bound into a root folder of the sandbox's own,
//! so that all share it read-only and no mount point of one is seen by another.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, mkdirat, openat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::policy::{HostPath, InsidePath, Mount};
use crate::root_folder::MADE_UP;

/// An image's parts. Whoever made it may be hostile: its links are never followed on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRoot {
    /// Where it is unpacked.
    pub folder: HostPath,
    /// Links at the root, such as `/bin` → `usr/bin`.
    pub links: Vec<(InsidePath, PathBuf)>,
    /// Top folders and files, seen at their own place.
    pub binds: Vec<Mount>,
    /// Files of `/etc` that ours stand before; without the image's own `/etc` there is nothing to stand before.
    pub etc: Vec<String>,
}

/// What the sandbox brings itself.
const OURS: [&str; 8] = ["proc", "sys", "dev", "tmp", "run", "work", "mirror.git", "lost+found"];

impl ImageRoot {
    /// Looks at an unpacked image.
    ///
    /// # Errors
    /// When it is not there, or cannot be read.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let mut image = Self {
            folder: HostPath::try_from(folder.to_owned()).map_err(io::Error::other)?,
            links: Vec::new(),
            binds: Vec::new(),
            etc: Vec::new(),
        };
        let mut names: Vec<_> =
            folder.read_dir()?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        for name in names.iter().filter(|name| OURS.iter().all(|ours| OsStr::new(ours) != *name)) {
            image.take(name)?;
        }
        if image.binds.iter().any(|bind| bind.inside.as_path() == Path::new("/etc")) {
            let covered = |name: &&str| !folder.join("etc").join(name).is_symlink();
            image.etc = MADE_UP.iter().filter(|name| covered(name)).map(ToString::to_string).collect();
        }
        Ok(image)
    }

    fn take(&mut self, name: &OsStr) -> io::Result<()> {
        let host = self.folder.as_path().join(name);
        let inside = InsidePath::try_from(Path::new("/").join(name)).map_err(io::Error::other)?;
        let kind = host.symlink_metadata()?.file_type();
        if kind.is_symlink() {
            self.links.push((inside, host.read_link()?));
        } else if kind.is_dir() || kind.is_file() {
            self.binds.push(Mount { host: HostPath::try_from(host).map_err(io::Error::other)?, inside });
        }
        Ok(())
    }

    /// Makes the mount point of what is mounted below one of the image's folders, where it is not there; answers
    /// whether that is so, or else it is for the sandbox's own root folder to hold it.
    ///
    /// # Errors
    /// Where a link is in the way, or something else of the image.
    pub(crate) fn mount_point(&self, inside: &InsidePath, folder: bool) -> io::Result<bool> {
        if !self.binds.iter().any(|bind| inside.as_path().starts_with(bind.inside.as_path())) {
            return Ok(false);
        }
        let told = |error: Errno| {
            let inside = inside.as_path().display();
            let why =
                format!("the image has something else, or a link, where {inside} is to be mounted: {error}");
            io::Error::new(io::Error::from(error).kind(), why)
        };
        make(self.folder.as_path(), inside.as_path(), folder).map_err(told).map(|()| true)
    }
}

/// Makes a folder or an empty file, and the folders above it, without following any link.
fn make(root: &Path, inside: &Path, folder: bool) -> Result<(), Errno> {
    let open_folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: OwnedFd = openat(CWD, root, open_folder, Mode::empty())?;
    let mut names = inside.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let last = names.next_back().ok_or(Errno::INVAL)?;
    for name in names {
        at = make_folder(&at, name, open_folder)?;
    }
    if folder {
        return make_folder(&at, last, open_folder).map(drop);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&at, last, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) => Ok(()),
        Err(Errno::EXIST) => {
            let there = statat(&at, last, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
            let plain = FileType::from_raw_mode(there.st_mode) == FileType::RegularFile;
            if plain { Ok(()) } else { Err(Errno::EXIST) }
        }
        Err(error) => Err(error),
    }
}

fn make_folder(at: &OwnedFd, name: &OsStr, open_folder: OFlags) -> Result<OwnedFd, Errno> {
    match mkdirat(at, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => openat(at, name, open_folder, Mode::empty()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn image(folder: &Path) -> ImageRoot {
        for name in ["usr/bin", "etc", "home/u", "proc", "work", "run"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        symlink("usr/bin", folder.join("bin")).unwrap();
        symlink("/nowhere", folder.join("etc/resolv.conf")).unwrap();
        ImageRoot::of(folder).unwrap()
    }

    #[test]
    fn an_images_own_run_and_work_are_left_out_and_its_links_stay_links() {
        let place = tempfile::tempdir().unwrap();
        let image = image(place.path());
        let inside: Vec<_> = image.binds.iter().map(|bind| bind.inside.as_path().to_str().unwrap()).collect();
        assert_eq!(inside, ["/etc", "/home", "/usr"]);
        assert_eq!(image.links, [(InsidePath::try_from("/bin").unwrap(), PathBuf::from("usr/bin"))]);
        assert!(image.etc.contains(&"passwd".to_owned()));
        assert!(!image.etc.contains(&"resolv.conf".to_owned()), "a link");
    }

    #[test]
    fn no_mount_point_is_made_through_an_images_link() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("image");
        let image = image(&folder);
        let make = |inside: &str, folder| image.mount_point(&InsidePath::try_from(inside).unwrap(), folder);
        assert!(!make("/run/doors", true).unwrap(), "is for our own root folder");
        assert!(make("/home/u/.cargo/registry", true).unwrap());
        assert!(folder.join("home/u/.cargo/registry").is_dir());
        assert!(make("/etc/passwd", false).unwrap());
        assert!(make("/etc/passwd", false).unwrap(), "twice");

        symlink("../..", folder.join("home/out")).unwrap();
        assert!(make("/home/out/canary", true).is_err());
        assert!(!place.path().join("canary").exists());
        symlink(place.path().join("canary"), folder.join("home/file")).unwrap();
        assert!(make("/home/file", false).is_err());
        assert!(make("/home/file", true).is_err());
        assert!(!place.path().join("canary").exists());
    }
}
