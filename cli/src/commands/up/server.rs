//! One server: started, watched, started again, stopped.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    net::{TcpStream, UnixStream},
    process::{Child, Command},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::addresses::Address;
use crate::{
    failure::{Exit, Failure},
    terminal::note,
};

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Before the first restart; doubled by each death in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that lived so long is well: the next pause is the first again.
const WELL: Duration = Duration::from_secs(60);
/// Between two looks whether it answers yet.
const LOOK: Duration = Duration::from_millis(20);

/// A server that `up` keeps running.
pub(super) struct Server {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// Variables that are none of its business.
    pub(super) hidden: Vec<String>,
    /// Where it will answer.
    pub(super) address: Address,
}

/// Runs until `stop`, or until the server says that it cannot run. Sends once, when it answers first.
pub(super) async fn keep_running(
    server: Server,
    answered: mpsc::Sender<()>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let name = server.program.file_name().unwrap_or_default().display().to_string();
    let mut pause = FIRST_PAUSE;
    let mut answered = Some(answered);
    loop {
        let started = Instant::now();
        let mut child = server.start()?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = server.answers(), if answered.is_some() => {
                    if let Some(answered) = answered.take() {
                        // Nobody listens any more where `up` is ending.
                        let _ = answered.send(()).await;
                    }
                }
                () = stop.cancelled() => return end(child).await,
            }
        };
        let status = status.map_err(|error| Failure::new(Exit::Failed, format!("{name}: {error}")))?;
        if let Some(code) = final_code(status) {
            return Err(Failure::new(
                Exit::Server(code),
                format!("{name} cannot run (exit code {code}), as it said"),
            ));
        }
        if started.elapsed() >= WELL {
            pause = FIRST_PAUSE;
        }
        note(&format!(
            "code-workers: {name} ended ({status}); restarting it in {:.1} s",
            pause.as_secs_f32()
        ));
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => return Ok(()),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Server {
    /// In a process group of its own, so that Ctrl-C reaches `up` alone, which then stops it in order.
    fn start(&self) -> Result<Child, Failure> {
        let mut command = Command::new("/proc/self/exe");
        for name in &self.hidden {
            command.env_remove(name);
        }
        command
            .arg("die-with-parent")
            .arg(std::process::id().to_string())
            .arg(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", self.program.display())))
    }

    async fn answers(&self) {
        while self.connect().await.is_err() {
            sleep(LOOK).await;
        }
    }

    async fn connect(&self) -> io::Result<()> {
        UnixStream::connect(&self.address.socket).await?;
        if self.address.tcp.port() != 0 {
            TcpStream::connect(self.address.tcp).await?;
        }
        Ok(())
    }
}

async fn end(mut child: Child) -> Result<(), Failure> {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        // It may have ended just now.
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
    Ok(())
}

/// The exit code of a server that another start would not help: it ended by itself, with an error that it has
/// told. A signal, a panic (101) and an end that nobody asked for are accidents.
fn final_code(status: ExitStatus) -> Option<u8> {
    match status.code() {
        _ if status.signal().is_some() => None,
        None | Some(0 | 101) => None,
        Some(code) => u8::try_from(code).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::final_code;
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

    #[test]
    fn accidents_are_restarted_and_told_errors_are_not() {
        let exited = |code: i32| final_code(ExitStatus::from_raw(code << 8));
        assert_eq!(exited(64), Some(64));
        assert_eq!(exited(1), Some(1));
        assert_eq!(exited(0), None);
        assert_eq!(exited(101), None);
        assert_eq!(final_code(ExitStatus::from_raw(9)), None);
    }
}
