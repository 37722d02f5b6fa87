//! `code-workers-repository`: one JSON request on standard input, one JSON answer on standard output. Exits 0 with
//! every answer, a failure included; 2 when no answer could be given. `--version` says its version.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use repository::limits::MAX_MESSAGE_BYTES;
use repository::{Answer, Code, RepositoryError, Request, execute};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group};

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "--version") {
        let _ = writeln!(io::stdout().lock(), "code-workers-repository {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    std::thread::spawn(end_with_the_asker);
    match answer().and_then(|answer| tell(&answer)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "code-workers-repository: {error}");
            ExitCode::from(2)
        }
    }
}

/// When whoever asked has died, nobody ends a git that hangs, and it holds the mirror's lock: the answer's pipe then
/// reports an error, and the whole process group goes. Only where it is a group of its own, as [`repository::Helper`]
/// makes it, and not a shell's.
fn end_with_the_asker() {
    let stdout = io::stdout();
    loop {
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut watched, None) {
            Err(Errno::INTR) => {}
            Ok(_) if watched[0].revents().contains(PollFlags::ERR) && getpgrp() == getpid() => {
                // Nothing runs after a success, and after a failure nothing is better.
                let _ = kill_current_process_group(Signal::KILL);
                return;
            }
            _ => return,
        }
    }
}

fn answer() -> io::Result<Answer> {
    let mut question = Vec::new();
    io::stdin().lock().take(MAX_MESSAGE_BYTES).read_to_end(&mut question)?;
    Ok(match serde_json::from_slice::<Request>(&question) {
        Ok(request) => execute(&request),
        Err(error) => Answer::Failed(RepositoryError {
            code: Code::BadRequest,
            message: format!("the request cannot be read: {error}"),
            remedy: "send one JSON object with `operation` on standard input".to_owned(),
        }),
    })
}

fn tell(answer: &Answer) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    writeln!(out)?;
    out.flush()
}
