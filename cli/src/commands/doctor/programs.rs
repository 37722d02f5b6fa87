//! The programs that belong together, and git.

use std::process::{Command, Stdio};

use super::check::Check;
use crate::programs;

/// All that this command may start, directly or not.
const OURS: [&str; 6] = [
    "code-workers-coordinator",
    "code-workers-gateway",
    "code-workers-launcher",
    "code-workers-relay",
    "code-workers-repository",
    "code-workers-worker",
];

/// Whether all are there, and of one version.
pub(super) fn ours() -> Check {
    const NAME: &str = "programs";
    let wanted = env!("CARGO_PKG_VERSION");
    let mut wrong = Vec::new();
    for program in OURS {
        match programs::find(program) {
            Err(_) => wrong.push(format!("{program} is neither beside this program nor on PATH")),
            Ok(path) => match version(Command::new(&path).arg("--version")) {
                Ok(version) if version.split_whitespace().next_back() == Some(wanted) => {}
                Ok(version) => wrong.push(format!("{}: {version}, and this is {wanted}", path.display())),
                Err(error) => wrong.push(format!("{}: {error}", path.display())),
            },
        }
    }
    if wrong.is_empty() {
        return Check::ok(NAME, format!("all {} of version {wanted}", OURS.len() + 1));
    }
    let remedy = "install them together (./install.sh), or build them all (cargo build --release)";
    Check::failed(NAME, wrong.join("\n"), remedy)
}

/// Whether git is there; mirrors are made with it.
pub(super) fn git() -> Check {
    match version(Command::new("git").arg("--version")) {
        Ok(version) => Check::ok("git", version),
        Err(error) => Check::failed(
            "git",
            error,
            "install git (apt-get install git): mirrors and bundles are made with it",
        ),
    }
}

/// What a program says of itself, or why it says nothing.
fn version(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(format!("it ends with {}", output.status)) }
}
