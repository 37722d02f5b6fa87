//! Going through a part of a task's output, line by line.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use super::line;

/// What is in a part.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scanned {
    /// Bytes of whole lines.
    pub(super) bytes: u64,
    /// Lines of the task up to its end.
    pub(super) lines: u64,
    /// The attempt of its last line that is not damaged, and the events of it that are stored with that line.
    pub(super) last: Option<(u32, u64)>,
}

/// Goes through all of a file that may not be there; `lines` came before it.
pub(super) fn scan(path: &Path, lines: u64) -> io::Result<Scanned> {
    let mut found = Scanned { lines, ..Scanned::default() };
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    let (mut text, mut damaged) = (Vec::new(), 0);
    loop {
        text.clear();
        let size = file.read_until(b'\n', &mut text)?;
        if text.last() != Some(&b'\n') {
            break;
        }
        found.bytes += line::bytes(size);
        match line::read_event(&text) {
            Some(line) => {
                found.lines = line.o.unwrap_or(found.lines + damaged + 1);
                found.last = Some((line.a, line.i));
                damaged = 0;
            }
            None => damaged += 1,
        }
    }
    found.lines += damaged;
    Ok(found)
}
