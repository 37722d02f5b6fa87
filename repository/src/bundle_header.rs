//! The header of a git bundle, read before git sees the file (the format is `git help gitformat-bundle`).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::limits::MAX_BUNDLE_HEADER_BYTES;
use crate::{Code, CommitId, RepositoryError};

/// What a bundle says of itself: claims of whoever made it, but complete and well-formed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BundleHeader {
    /// Commits that the receiver has to have.
    pub(crate) prerequisites: Vec<CommitId>,
    /// Each ref that it brings.
    pub(crate) refs: Vec<(CommitId, String)>,
}

impl BundleHeader {
    /// Reads the header, and leaves `file` where the pack begins.
    pub(crate) fn read(file: &mut File) -> Result<Self, RepositoryError> {
        let mut beginning = Vec::new();
        file.take(MAX_BUNDLE_HEADER_BYTES as u64)
            .read_to_end(&mut beginning)
            .map_err(|error| RepositoryError::io("cannot read the bundle", &error))?;
        let (header, length) = parse(&beginning).map_err(malformed)?;
        file.seek(SeekFrom::Start(length as u64))
            .map_err(|error| RepositoryError::io("cannot read the bundle", &error))?;
        Ok(header)
    }
}

/// The header and how many bytes it takes.
fn parse(bytes: &[u8]) -> Result<(BundleHeader, usize), &'static str> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").ok_or("its header does not end")?;
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    if !matches!(lines.next(), Some(b"# v2 git bundle" | b"# v3 git bundle")) {
        return Err("it does not begin like a git bundle");
    }
    let mut header = BundleHeader { prerequisites: Vec::new(), refs: Vec::new() };
    for line in lines {
        if let Some(capability) = line.strip_prefix(b"@") {
            // `@filter` would leave objects out.
            if !matches!(capability, b"object-format=sha1" | b"object-format=sha256") {
                return Err("it asks for a capability that is not allowed");
            }
        } else if let Some(prerequisite) = line.strip_prefix(b"-") {
            // After the id stands the commit's subject, in whatever encoding that has.
            let id = prerequisite.split(|byte| *byte == b' ').next().and_then(commit_id);
            header.prerequisites.push(id.ok_or("it names a prerequisite that is no commit id")?);
        } else {
            let text = std::str::from_utf8(line).map_err(|_| "a line of its header is not text")?;
            let (id, name) = text.split_once(' ').ok_or("a line of its header is no ref")?;
            let id = commit_id(id.as_bytes()).ok_or("it names a ref without a commit id")?;
            header.refs.push((id, name.to_owned()));
        }
    }
    Ok((header, end + 2))
}

fn commit_id(bytes: &[u8]) -> Option<CommitId> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// A bundle that is no bundle.
pub(crate) fn malformed(why: &str) -> RepositoryError {
    RepositoryError::new(
        Code::BundleMalformed,
        format!("the bundle cannot be read: {why}"),
        "run the task again; its patch and log are still there",
    )
}
