//! A tar becomes a folder. It may come from anybody: nothing is written outside the folder, no device and no
//! setuid bit comes to be.

use std::{
    fs::{self, DirBuilder},
    io::{self, BufReader, Read},
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use flate2::read::MultiGzDecoder;
use protocol::image::Digest;
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

use super::store::failed;
use crate::failure::{Exit, Failure};

/// How a gzip stream begins (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Unpacks into `root`, which must not be there yet; answers the SHA-256 of the tar as it is without compression.
pub(super) fn unpack(tar: &mut dyn Read, root: &Path) -> Result<Digest, Failure> {
    let told = |error: io::Error| {
        let full = error.kind() == io::ErrorKind::StorageFull;
        let remedy = if full {
            "\nmake room on that disk"
        } else {
            "\nit has to be a tar of a root file system, as `docker export` writes it"
        };
        Failure::new(Exit::Failed, format!("the image cannot be unpacked: {}{remedy}", whole(&error)))
    };
    DirBuilder::new()
        .mode(0o755)
        .create(root)
        .map_err(|error| failed(&root.display().to_string(), &error))?;
    let mut plain = Hashing { reader: decompressed(tar).map_err(told)?, hash: Sha256::new() };
    entries(&mut plain, root).map_err(told)?;
    // What stands behind the last entry belongs to the digest too.
    io::copy(&mut plain, &mut io::sink()).map_err(told)?;
    if fs::read_dir(root).map_err(told)?.next().is_none() {
        return Err(told(io::Error::other("it is empty")));
    }
    if root.join("oci-layout").exists() || root.join("manifest.json").exists() {
        let text = "the tar holds a saved image and no root file system\n\
                    `docker load` it, and take it in with `docker export $(docker create IMAGE)`";
        return Err(Failure::new(Exit::Failed, text));
    }
    Ok(Digest::of_sha256(plain.hash.finalize().into()))
}

/// An error with its causes, which the library keeps apart.
fn whole(error: &io::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.get_ref().and_then(|inner| inner.source());
    while let Some(cause) = at {
        text = format!("{text}: {cause}");
        at = cause.source();
    }
    text
}

fn decompressed<'a>(tar: &'a mut dyn Read) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    tar.take(GZIP.len() as u64).read_to_end(&mut start)?;
    let whole = BufReader::new(io::Cursor::new(start.clone()).chain(tar));
    Ok(if start == GZIP { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

fn entries(tar: &mut impl Read, root: &Path) -> io::Result<()> {
    let mut archive = Archive::new(tar);
    archive.set_preserve_permissions(false);
    archive.set_mask(0);
    // A plain user's files are its own, whoever the tar says.
    archive.set_preserve_ownerships(rustix::process::geteuid().is_root());
    archive.set_overwrite(true);
    // Folders come last, the deepest first: one that nobody may write has to be filled first.
    let mut folders = Vec::new();
    for entry in archive.entries()? {
        let entry = entry?;
        match entry.header().entry_type() {
            EntryType::Directory => folders.push(entry),
            EntryType::Block | EntryType::Char | EntryType::Fifo => {}
            _ => place(entry, root)?,
        }
    }
    folders.sort_by(|one, other| other.path_bytes().cmp(&one.path_bytes()));
    folders.into_iter().try_for_each(|folder| place(folder, root))
}

fn place(mut entry: Entry<'_, impl Read>, root: &Path) -> io::Result<()> {
    let path = entry.path()?.into_owned();
    if entry.unpack_in(root)? {
        return Ok(());
    }
    Err(io::Error::other(format!("{} would lie outside of the image", path.display())))
}

struct Hashing<R> {
    reader: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}
