//! Whether the others still come through their doors while one is attacking.

use std::{
    io::{Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::http::request;

/// The longest that an answer may take; shorter than attackers hold their breath.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time between two questions.
const BETWEEN: Duration = Duration::from_millis(300);

/// Asks at a door again and again until it is over; says what went wrong.
pub(super) fn watch(door: &Path, over: &AtomicBool) -> Option<String> {
    while !over.load(Ordering::Relaxed) {
        if let Err(error) = ask(door) {
            return Some(format!("another sandbox's door did not answer: {error}"));
        }
        std::thread::park_timeout(BETWEEN);
    }
    None
}

/// Any answer will do: without a key it is a refusal.
fn ask(door: &Path) -> std::io::Result<()> {
    // Through its folder: the path may be longer than an address can be.
    let folder = std::fs::File::open(door.parent().unwrap_or(Path::new(".")))?;
    let name = door.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    let mut stream = UnixStream::connect(short)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request("GET", "/health", &[], "").as_bytes())?;
    stream.read_exact(&mut [0; 12])
}
