//! Processes whose every line is kept, waited for by what they say.

use std::{
    io::{self, BufRead, BufReader, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, kill_process},
};

/// The longest that anything is waited for; far over what it takes, so that only a hang meets it.
const PATIENCE: Duration = Duration::from_secs(240);
/// The time between SIGTERM and SIGKILL when a scenario ends.
const GRACE: Duration = Duration::from_secs(20);

enum Said {
    Line(String),
    Ended(ExitStatus),
}

/// A running program.
pub struct Process {
    name: String,
    pid: Pid,
    said: Receiver<Said>,
    lines: Vec<String>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a program.
    #[must_use]
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let pid = Pid::from_child(&child);
        let (tell, said) = channel();
        let (ended, alive) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let ended = Arc::new(ended);
        let readers = [
            follow(child.stdout.take().unwrap(), &ended, &tell),
            follow(child.stderr.take().unwrap(), &ended, &tell),
        ];
        thread::spawn(move || tell_end(&mut child, alive, readers, &tell));
        Self { name: name.to_owned(), pid, said, lines: Vec::new(), ended: None }
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// How many lines it has said so far.
    pub fn lines(&mut self) -> usize {
        while self.ended.is_none() && self.listen(Instant::now()) {}
        self.lines.len()
    }

    /// Waits for a line that holds this text, from the start of the process on.
    pub fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_after(0, text)
    }

    /// The same, but for the first so many lines.
    pub fn wait_for_after(&mut self, lines: usize, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut seen = lines;
        loop {
            if let Some(line) = self.lines[seen..].iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            seen = self.lines.len();
            assert!(self.ended.is_none(), "{} ended before it said {text:?}:\n{}", self.name, self.told());
            assert!(self.listen(until), "{} has not said {text:?}:\n{}", self.name, self.told());
        }
    }

    /// Waits for the end: the exit code, or 128 + the signal's number.
    pub fn wait(&mut self) -> i32 {
        let until = Instant::now() + PATIENCE;
        while self.ended.is_none() {
            assert!(self.listen(until), "{} has not ended:\n{}", self.name, self.told());
        }
        code(self.ended.unwrap())
    }

    /// All that it said so far.
    #[must_use]
    pub fn told(&self) -> String {
        self.lines.join("\n")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    fn listen(&mut self, until: Instant) -> bool {
        match self.said.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Said::Line(line)) => self.lines.push(line),
            Ok(Said::Ended(status)) => self.ended = Some(status),
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => panic!("{}: its watcher died", self.name),
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let until = Instant::now() + GRACE;
        while self.ended.is_none() && self.listen(until) {}
        self.signal(Signal::KILL);
        if thread::panicking() {
            eprintln!("---- {} said:\n{}\n----", self.name, self.told());
        }
    }
}

/// Tells each line until the stream ends, or until the process has ended and what it wrote is read: a grandchild
/// may hold the stream open for longer.
fn follow(
    stream: impl Read + AsFd + Send + 'static,
    process_ended: &Arc<OwnedFd>,
    tell: &Sender<Said>,
) -> thread::JoinHandle<()> {
    let (process_ended, tell) = (process_ended.clone(), tell.clone());
    let stream = UntilEnd { stream, process_ended };
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let _ = tell.send(Said::Line(String::from_utf8_lossy(&line).into_owned()));
        }
    })
}

/// A stream that is at its end when the process has ended and nothing waits to be read.
struct UntilEnd<S> {
    stream: S,
    /// A pipe whose other end is closed when the process has ended.
    process_ended: Arc<OwnedFd>,
}

impl<S: Read + AsFd> Read for UntilEnd<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ready =
            [PollFd::new(&self.stream, PollFlags::IN), PollFd::new(&self.process_ended, PollFlags::IN)];
        poll(&mut ready, None)?;
        if ready[0].revents().is_empty() { Ok(0) } else { self.stream.read(buffer) }
    }
}

fn tell_end(child: &mut Child, alive: OwnedFd, readers: [thread::JoinHandle<()>; 2], tell: &Sender<Said>) {
    let status = child.wait().unwrap();
    drop(alive);
    for reader in readers {
        reader.join().unwrap();
    }
    let _ = tell.send(Said::Ended(status));
}

/// An exit code, or 128 + the signal's number.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
