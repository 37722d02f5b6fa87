//! What the owner sees: one line an event, on standard output.

use std::io::Write;
use std::sync::OnceLock;

/// What stands before every line.
static MARK: OnceLock<&str> = OnceLock::new();

/// Begins every line from now on with this.
pub(crate) fn mark(mark: &'static str) {
    // Only the first is kept, and there is one.
    let _ = MARK.set(mark);
}

fn marked(text: &str) -> String {
    let mark = MARK.get().copied().unwrap_or_default();
    text.lines().map(|line| format!("{mark}{line}\n")).collect()
}

/// Prints one line; a reader that is gone is no error.
pub(crate) fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(marked(line).as_bytes()).and_then(|()| out.flush());
}

/// Prints one line to standard error.
pub(crate) fn tell_error(line: &str) {
    let _ = std::io::stderr().lock().write_all(marked(line).as_bytes());
}

/// `1 sandbox`, `2 sandboxes`.
pub(crate) fn count(number: usize, noun: &str, plural: &str) -> String {
    format!("{number} {}", if number == 1 { noun } else { plural })
}
