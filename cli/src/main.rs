//! The command `code-workers`: what an owner does with tasks, from a shell.

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

mod artifact;
mod bundle_base;
mod command_line;
mod commands;
mod context;
mod ending;
mod event_lines;
mod failure;
mod money_lines;
mod programs;
mod queue_lines;
mod start_time;
mod task_lines;
mod terminal;
mod typed_text;
mod wait;

/// One thread, so that what `up` starts has the main thread as its parent for as long as `up` lives.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let told = match command_line::CommandLine::try_parse_from(arguments) {
        Ok(line) => commands::run(line).await,
        Err(error) => {
            // Help and the version are no faults, and clap knows which goes where.
            let exit = u8::try_from(error.exit_code()).unwrap_or(failure::Exit::Usage.code());
            let _ = error.print();
            return ExitCode::from(exit);
        }
    };
    let exit = told.unwrap_or_else(failure::Failure::tell);
    ExitCode::from(exit.code())
}
