//! `knock`: whether a door can be reached from here.

use std::{os::unix::net::UnixStream, path::Path, process::ExitCode};

use super::{HELPER_FAILED, fail};

/// Exits 0 when somebody accepts.
#[must_use]
pub fn knock(socket: &Path) -> ExitCode {
    match UnixStream::connect(socket) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => fail(HELPER_FAILED, format_args!("{}: {error}", socket.display())),
    }
}
