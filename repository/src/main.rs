//! `code-workers-repository`: one JSON request on standard input, one JSON answer on standard output. Exits 0 with
//! every answer, a failure included; 2 when no answer could be given.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use repository::limits::MAX_MESSAGE_BYTES;
use repository::{Answer, Code, RepositoryError, Request, execute};

fn main() -> ExitCode {
    match answer().and_then(|answer| tell(&answer)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "code-workers-repository: {error}");
            ExitCode::from(2)
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
