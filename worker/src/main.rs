//! `code-workers-worker`: the program around the room. It only wires.

use std::process::ExitCode;

use clap::Parser as _;
use worker::{
    command_line::{CommandLine, Mode},
    exit::Exit,
    fortress, helper, init, work,
};

fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::BadConfiguration.into() } else { ExitCode::SUCCESS };
        }
    };
    match line.mode {
        Mode::Init => init::run(),
        Mode::Work => work::main().into(),
        Mode::AsUser { user, command } => helper::as_user(user, &command),
        Mode::KillUser { user, signal } => helper::kill_user(user, signal),
        Mode::Knock { socket } => helper::knock(&socket),
        Mode::Fortress { part } => fortress::main(part),
        Mode::Sweep { user, but, folders } => helper::sweep(user, &but, &folders),
        Mode::CountOpen => helper::count_open(),
        Mode::CountFiles { folder, most } => helper::count_files(&folder, most),
        Mode::ListFiles { folder } => helper::list_files(&folder),
    }
}
