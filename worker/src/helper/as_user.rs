//! `as-user`: becomes another user, then executes a program in its own place.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use super::{HELPER_FAILED, NOT_FOUND, NOT_RUNNABLE, become_user::become_user, fail};
use crate::command_line::User;

/// Returns only when the program could not be executed: 127 where there is none, 126 where it cannot be run, 71
/// where the user could not be changed (and then nothing was executed).
#[must_use]
pub fn as_user(user: User, command: &[OsString]) -> ExitCode {
    if let Err(error) = become_user(user) {
        return fail(HELPER_FAILED, format_args!("cannot become user {}: {error}", user.uid));
    }
    let Some((program, arguments)) = command.split_first() else {
        return fail(HELPER_FAILED, "no program was named");
    };
    let error = Command::new(program).args(arguments).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE };
    fail(code, format_args!("cannot run {}: {error}", program.display()))
}
