//! The base of a bundle, from its own header, for when the coordinator cannot be asked.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use repository::CommitId;

/// Bytes of a header that are looked at.
const HEADER_BYTES: u64 = 64 * 1024;

/// The first commit that the bundle builds on; `None` where it names none, or is no bundle
/// (`git help gitformat-bundle`: such a line is `-`, the id, a space, the subject).
pub(crate) fn of(bundle: &Path) -> io::Result<Option<CommitId>> {
    let header = BufReader::new(File::open(bundle)?.take(HEADER_BYTES));
    for line in header.split(b'\n') {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix(b"-") {
            let id = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
            return Ok(std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::of;
    use std::io::Write;

    fn base(header: &[u8]) -> Option<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(header).unwrap();
        of(file.path()).unwrap().map(String::from)
    }

    #[test]
    fn is_the_first_prerequisite() {
        let id = "a".repeat(40);
        let header =
            format!("# v2 git bundle\n-{id} a subject\n-{} b\n{id} refs/heads/x\n\nPACK", "b".repeat(40));
        assert_eq!(base(header.as_bytes()), Some(id.clone()));
        assert_eq!(base(format!("# v2 git bundle\n{id} refs/heads/x\n\n-{id}\n").as_bytes()), None);
        assert_eq!(base(b"-nonsense\n"), None);
        assert_eq!(base(&[0xff; 70_000]), None);
    }
}
