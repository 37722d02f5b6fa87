//! A server that was started for the place, and ends with it.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

/// How long what starts may take to say so.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time between SIGTERM and SIGKILL.
const GRACE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// How long one look at whether it has ended takes.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };

pub(super) struct Server {
    name: String,
    child: Child,
    /// Locked so that a place can be shared among threads.
    lines: Mutex<Receiver<String>>,
    said: Vec<String>,
}

impl Server {
    pub(super) fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{name} does not start"))?;
        let (sender, lines) = channel();
        let out = child.stdout.take().map(|out| Box::new(out) as Box<dyn std::io::Read + Send>);
        let err = child.stderr.take().map(|err| Box::new(err) as Box<dyn std::io::Read + Send>);
        for pipe in out.into_iter().chain(err) {
            let sender = sender.clone();
            thread::spawn(move || {
                BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
            });
        }
        Ok(Self { name: name.to_owned(), child, lines: Mutex::new(lines), said: Vec::new() })
    }

    /// The first line, from the start, that holds `text`.
    pub(super) fn wait_for(&mut self, text: &str) -> anyhow::Result<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.said.iter().find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .recv_timeout(left)
                .with_context(|| {
                    format!("{} did not say {text:?}, but:\n{}", self.name, self.said.join("\n"))
                })?;
            self.said.push(line);
        }
    }
}

impl Server {
    /// All that it has said until now.
    pub(super) fn heard(&mut self) -> &[String] {
        let lines = self.lines.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.said.extend(lines.try_iter());
        &self.said
    }
}

impl Server {
    /// Whether it has ended; waits a moment for that.
    pub(super) fn ends_soon(&self) -> bool {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let ended = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        ended.is_none_or(|ended| {
            poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&MOMENT)).is_ok_and(|ready| ready > 0)
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let ended = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(ended) = ended {
            let _ = poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&GRACE));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
