//! The program `docker`, asked one thing at a time.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

/// How long the daemon may take for one answer. A container starts within a second.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// All that the client may know of our environment: where its daemon is, and how to get there.
const ENVIRONMENT: [&str; 9] = [
    "PATH",
    "HOME",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "XDG_RUNTIME_DIR",
    "SSH_AUTH_SOCK",
];

/// A command of the client, away from our terminal and our environment.
pub(super) fn command(program: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .process_group(0)
        .stdin(Stdio::null());
    command
}

/// What the client answers, whatever its exit code.
pub(super) async fn output(
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> io::Result<Output> {
    let answer = command(program, arguments).kill_on_drop(true).output();
    tokio::time::timeout(ANSWER_TIME, answer).await.unwrap_or_else(|_| {
        let seconds = ANSWER_TIME.as_secs();
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("docker gave no answer within {seconds} s")))
    })
}

/// The client's standard output; its complaint where it fails.
pub(super) async fn ask(
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> io::Result<String> {
    let output = output(program, arguments).await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(complaint(&output)))
}

/// What the client says is wrong: without its hint at `--help`.
pub(super) fn complaint(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = told
        .lines()
        .map(str::trim)
        .filter(|line| {
            !line.is_empty() && !line.ends_with("--help'") && !line.ends_with("--help' for more information")
        })
        .collect();
    match lines.is_empty() {
        true => format!("docker ended with {} and gave no reason", output.status),
        false => lines.join("; "),
    }
}
