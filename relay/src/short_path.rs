//! Unix sockets whose path is longer than the system takes.

use std::{
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// The most bytes of a unix socket's path (`sun_path` holds 108 with its NUL, unix(7)).
const MAX_UNIX_PATH_BYTES: usize = 107;

/// A path that fits: the socket's own, or one through an open descriptor of its folder, as long as this is held.
/// A home folder, a data folder and a sandbox's name are together often longer than what fits.
#[derive(Debug)]
pub(crate) struct ShortPath {
    path: PathBuf,
    _folder: Option<OwnedFd>,
}

impl ShortPath {
    /// A way to this socket, which need not be there.
    ///
    /// # Errors
    /// When the path is long and its folder cannot be opened.
    pub(crate) fn to(path: &Path) -> Result<Self, Errno> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::INVAL);
        };
        if path.as_os_str().as_bytes().len() <= MAX_UNIX_PATH_BYTES {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
