//! What git's complaints mean. git has no codes of its own; `LC_ALL=C` keeps its words stable, and the tests say
//! whether a git that is installed still uses them.

use std::io;

use crate::limits::MAX_QUOTED_CHARS;
use crate::{Code, RepositoryError};

/// Phrases, what they mean, and what to do. The first that is found decides.
const MEANINGS: [(&[&str], Code, &str); 6] = [
    (
        &[
            "shallow roots are not allowed",
            "shallow update not allowed",
            "source repository is shallow",
            "attempt to fetch/clone from a shallow repository",
        ],
        Code::SourceShallow,
        "complete the clone with `git fetch --unshallow`, or register the URL that it came from",
    ),
    (
        &[
            "could not read Username",
            "could not read Password",
            "Authentication failed",
            "Permission denied",
            "Host key verification failed",
            "returned error: 401",
            "returned error: 403",
            "unable to get password",
        ],
        Code::SourceDenied,
        "make `git ls-remote` work for this source without a question (a credential helper, or a key in an ssh agent), as the same user",
    ),
    (
        &[
            "Could not resolve host",
            "Name or service not known",
            "Temporary failure in name resolution",
            "Failed to connect",
            "Couldn't connect",
            "Connection refused",
            "Connection timed out",
            "No route to host",
            "Network is unreachable",
            "unable to connect",
            "unable to look up",
            "Operation too slow",
        ],
        Code::SourceMissing,
        "check the URL and the network",
    ),
    (
        &[
            "does not appear to be a git repository",
            "not a git repository",
            "not found",
            "not valid: is this a git repository",
        ],
        Code::NotARepository,
        "name the folder or URL of a git repository that has been made with `git init` or `git clone`",
    ),
    (
        &["detected dubious ownership"],
        Code::GitFailed,
        "the repository belongs to another user: run this as that user, or trust it with `git config --global --add safe.directory FOLDER`",
    ),
    (
        &["No space left on device", "Disk quota exceeded"],
        Code::GitFailed,
        "make room on the disk and try again",
    ),
];

/// git ended badly while `doing` something.
pub(crate) fn of_git(doing: &str, complaints: &str, signal: Option<i32>) -> RepositoryError {
    let (code, remedy) = MEANINGS
        .iter()
        .find(|(phrases, ..)| phrases.iter().any(|phrase| complaints.contains(phrase)))
        .map_or(
            (Code::GitFailed, "run the same by hand to see more, and report it if the fault is not yours"),
            |found| (found.1, found.2),
        );
    let why = match signal {
        Some(signal) => format!("ended by signal {signal}; {}", quoted(complaints)),
        None => quoted(complaints),
    };
    RepositoryError::new(code, format!("git failed {doing}: {why}"), remedy)
}

/// git could not even be started.
pub(crate) fn of_spawn(error: &io::Error) -> RepositoryError {
    if error.kind() == io::ErrorKind::NotFound {
        return RepositoryError::new(
            Code::GitMissing,
            "there is no git on the PATH",
            "install git 2.39 or newer, for example with `apt-get install git`",
        );
    }
    RepositoryError::io("cannot start git", error)
}

/// The complaint in short: what git calls fatal or an error first, since hints and progress stand around it.
pub(crate) fn quoted(complaints: &str) -> String {
    let lines: Vec<&str> = complaints.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let telling = |line: &&&str| {
        ["fatal:", "error:", "remote:", "ERROR:", "ssh:"].iter().any(|sign| line.starts_with(sign))
    };
    let mut chosen: Vec<&str> = lines.iter().filter(telling).copied().collect();
    if chosen.is_empty() {
        chosen = lines;
    }
    if chosen.is_empty() {
        return "it said nothing".to_owned();
    }
    chosen.join("; ").chars().take(MAX_QUOTED_CHARS).collect()
}
