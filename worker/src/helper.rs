//! The modes that act as another user, or for a moment. Each is its own process, so that no privilege is dropped in a program
//! that goes on.

mod as_user;
mod become_user;
mod count_files;
mod count_open;
mod kill_user;
mod knock;
mod list_files;
mod sweep;

use std::{fmt, io::Write as _, process::ExitCode};

pub use as_user::as_user;
pub use count_files::count_files;
pub use count_open::count_open;
pub use kill_user::kill_user;
pub(crate) use kill_user::of_user;
pub use knock::knock;
pub use list_files::{FileHeader, list_files};
pub use sweep::sweep;

/// What `as-user` exits with when there is no such program: the shells' convention.
pub const NOT_FOUND: u8 = 127;
/// What `as-user` exits with when the program cannot be run.
pub const NOT_RUNNABLE: u8 = 126;
/// What a helper exits with when it could not do its own part: sysexits' EX_OSERR.
const HELPER_FAILED: u8 = 71;

fn fail(code: u8, what: impl fmt::Display) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "code-workers-worker: {what}");
    ExitCode::from(code)
}
