//! One git process, as the agent's user.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, ChildStdin, Command},
};

use crate::{agent_user, helper, places::Places};

/// How long one git may take. A filter or a file system of the agent's making could hold it for ever. Well below
/// the time for the whole result, so that the rescue has its own.
const GIT_WITHIN: Duration = Duration::from_secs(90);
/// Bytes kept of what git says to us (not of a patch or a bundle, which go to a file).
const ANSWER_BYTES: u64 = 64 * 1024;

/// Where git works.
#[derive(Debug, Clone)]
pub struct Git<'a> {
    places: &'a Places,
    /// Instead of the `.git` in the work tree.
    git_dir: Option<PathBuf>,
    /// Instead of the agent's index.
    index: Option<PathBuf>,
    within: Duration,
}

/// Why a git process was of no use.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git in the sandbox.
    #[error("there is no git in the sandbox: install it on the host, or use an image that has it")]
    Missing,
    /// It ended badly.
    #[error("git {verb} failed ({status}): {said}")]
    Failed {
        /// Its first argument.
        verb: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said, shortened.
        said: String,
    },
    /// It was still at work when its time was over.
    #[error("git {verb} did not end within {} s", GIT_WITHIN.as_secs())]
    TooSlow {
        /// Its first argument.
        verb: String,
    },
    /// The process or its pipe.
    #[error("git {verb}: {why}")]
    Io {
        /// Its first argument.
        verb: String,
        /// What the system said.
        why: io::Error,
    },
}

impl<'a> Git<'a> {
    /// In the work tree, with the agent's own `.git`.
    #[must_use]
    pub fn in_work_tree(places: &'a Places) -> Self {
        Self { places, git_dir: None, index: None, within: GIT_WITHIN }
    }

    /// The same, with all the time that it wants: something else ends it.
    #[must_use]
    pub fn without_limit(self) -> Self {
        Self { within: Duration::MAX, ..self }
    }

    /// The work tree, with another repository than the agent's.
    #[must_use]
    pub fn with_git_dir(&self, git_dir: PathBuf) -> Self {
        Self { git_dir: Some(git_dir), ..self.clone() }
    }

    /// The same repository, with another index.
    #[must_use]
    pub fn with_index(&self, index: PathBuf) -> Self {
        Self { index: Some(index), ..self.clone() }
    }

    /// Its first line of output, without the end of line.
    ///
    /// # Errors
    /// [`GitError`], also when it ends with another code than 0.
    pub async fn answer<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String, GitError> {
        let (status, out, said) = self.run(args).await?;
        if status.success() { Ok(out) } else { Err(failed(args, status, &said)) }
    }

    /// Whether it ended with 0.
    ///
    /// # Errors
    /// [`GitError`], but not for its exit code.
    pub async fn succeeds<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<bool, GitError> {
        self.run(args).await.map(|(status, ..)| status.success())
    }

    /// Gives it what `write` writes to its standard input, which ends with that. When `write` fails, it is ended.
    ///
    /// # Errors
    /// What `write` says; and [`GitError`], also when it ends with another code than 0.
    pub async fn feed<S, E, F>(&self, args: &[S], write: F) -> Result<(), E>
    where
        S: AsRef<OsStr>,
        E: From<GitError>,
        F: AsyncFnOnce(&mut ChildStdin) -> Result<(), E>,
    {
        let io = |why| GitError::Io { verb: verb(args), why };
        let work = async {
            let mut child = self.command(args).stdin(Stdio::piped()).spawn().map_err(io)?;
            let (stdin, out, said) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let (Some(mut stdin), Some(out), Some(said)) = (stdin, out, said) else {
                return Err(io(io::ErrorKind::BrokenPipe.into()).into());
            };
            let fed = async {
                match write(&mut stdin).await {
                    Ok(()) => {
                        drop(stdin);
                        Ok(())
                    }
                    Err(error) => Err((error, stdin)),
                }
            };
            let read = async { Ok(tokio::join!(read_start(out), read_start(said)).1) };
            let said = match tokio::try_join!(fed, read) {
                Ok(((), said)) => said,
                Err((error, stdin)) => {
                    // Before its input ends: what was cut must not be taken for the whole.
                    let _ = child.start_kill();
                    drop(stdin);
                    let _ = child.wait().await;
                    return Err(error);
                }
            };
            let status = child.wait().await.map_err(io)?;
            if status.success() { Ok(()) } else { Err(failed(args, status, &said).into()) }
        };
        let done = tokio::time::timeout(self.within, work).await;
        done.unwrap_or_else(|_| Err(GitError::TooSlow { verb: verb(args) }.into()))
    }

    /// Hands its output to `read`.
    ///
    /// # Errors
    /// [`GitError`], also when it ends with another code than 0, and what `read` says.
    pub async fn stream<S, T, F>(&self, args: &[S], read: F) -> Result<T, GitError>
    where
        S: AsRef<OsStr>,
        F: AsyncFnOnce(&mut (dyn AsyncRead + Unpin + Send)) -> io::Result<T>,
    {
        let work = async {
            let mut child = self.spawn(args)?;
            let (out, said) = (child.stdout.take(), child.stderr.take());
            let (Some(mut out), Some(said)) = (out, said) else {
                return Err(GitError::Io { verb: verb(args), why: io::ErrorKind::BrokenPipe.into() });
            };
            let (read, said) = tokio::join!(
                async {
                    let read = read(&mut out).await;
                    // A reader that has enough closes the pipe, and git ends.
                    drop(out);
                    read
                },
                read_start(said)
            );
            let status = child.wait().await.map_err(|why| GitError::Io { verb: verb(args), why })?;
            let read = read.map_err(|why| GitError::Io { verb: verb(args), why })?;
            if status.success() { Ok(read) } else { Err(failed(args, status, &said)) }
        };
        tokio::time::timeout(self.within, work).await.map_err(|_| GitError::TooSlow { verb: verb(args) })?
    }

    async fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<(ExitStatus, String, String), GitError> {
        let io = |why| GitError::Io { verb: verb(args), why };
        let work = async {
            let mut child = self.spawn(args)?;
            let (out, said) = (child.stdout.take(), child.stderr.take());
            let (out, said, status) = tokio::join!(
                async { if let Some(out) = out { read_start(out).await } else { String::new() } },
                async { if let Some(said) = said { read_start(said).await } else { String::new() } },
                child.wait()
            );
            Ok((status.map_err(io)?, out.lines().next().unwrap_or_default().to_owned(), said))
        };
        let (status, out, said) = tokio::time::timeout(self.within, work)
            .await
            .map_err(|_| GitError::TooSlow { verb: verb(args) })??;
        if status.code() == Some(i32::from(helper::NOT_FOUND)) {
            return Err(GitError::Missing);
        }
        Ok((status, out, said))
    }

    fn spawn<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Child, GitError> {
        self.command(args).spawn().map_err(|why| GitError::Io { verb: verb(args), why })
    }

    fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = agent_user::command(self.places, "git");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        environment(&mut command, self.places);
        if let Some(git_dir) = &self.git_dir {
            command.env("GIT_DIR", git_dir).env("GIT_WORK_TREE", &self.places.work);
        }
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        command.args(SAFE).args(args);
        command
    }

    pub(super) fn places(&self) -> &Places {
        self.places
    }
}

/// What a repository's own configuration must not decide here: it could hold up the commit, or ask somebody.
const SAFE: [&str; 10] = [
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "commit.gpgSign=false",
    "-c",
    "core.quotePath=false",
    "-c",
    "gc.auto=0",
];

fn environment(command: &mut Command, places: &Places) {
    let (name, mail) = super::IDENTITY;
    command
        .env("PATH", &places.path)
        .env("HOME", places.scratch.join("nobody"))
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_GLOBAL", places.git_config())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", name)
        .env("GIT_AUTHOR_EMAIL", mail)
        .env("GIT_COMMITTER_NAME", name)
        .env("GIT_COMMITTER_EMAIL", mail);
}

async fn read_start(mut pipe: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    // A broken pipe shows in the exit code.
    let _ = (&mut pipe).take(ANSWER_BYTES).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

fn failed<S: AsRef<OsStr>>(args: &[S], status: ExitStatus, said: &str) -> GitError {
    if status.code() == Some(i32::from(helper::NOT_FOUND)) {
        return GitError::Missing;
    }
    let said: String = said.trim().chars().take(400).collect();
    GitError::Failed { verb: verb(args), status, said }
}

fn verb<S: AsRef<OsStr>>(args: &[S]) -> String {
    args.first().map(|verb| verb.as_ref().to_string_lossy().into_owned()).unwrap_or_default()
}

/// An argument made of an option and a path.
pub(super) fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}
