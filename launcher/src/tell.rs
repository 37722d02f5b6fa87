//! What the owner sees: one line an event, on standard output.

use std::io::Write;

/// Prints one line; a reader that is gone is no error.
pub(crate) fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints one line to standard error.
pub(crate) fn tell_error(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// `1 sandbox`, `2 sandboxes`.
pub(crate) fn count(number: usize, noun: &str, plural: &str) -> String {
    format!("{number} {}", if number == 1 { noun } else { plural })
}
