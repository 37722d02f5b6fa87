//! Doors without one of the checks of the servers behind them: each request's head is rewritten as if the check were
//! not there, and then passed on.

use std::{
    fs::{self, OpenOptions},
    io,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use protocol::inside::{COORDINATOR_DOOR, GATEWAY_DOOR};

use crate::line::Line;

/// What such doors need to know.
#[derive(Clone)]
pub(super) struct Behind {
    pub(super) owner: PathBuf,
    pub(super) worker: PathBuf,
    pub(super) gateway: PathBuf,
    pub(super) admin: PathBuf,
    /// `HOST:PORT`
    pub(super) model: String,
    pub(super) owner_key: String,
    pub(super) real_key: String,
    /// A log that is no good.
    pub(super) log: PathBuf,
    /// The victim's own worker's token and lease.
    pub(super) token: String,
    pub(super) lease: String,
    pub(super) task: String,
}

/// Visitors at once, where all sandboxes share a door.
const SEATS: usize = 8;

/// One of few; given back when it is dropped.
struct Seat(Arc<(Mutex<usize>, Condvar)>);

impl Seat {
    fn take(seats: Arc<(Mutex<usize>, Condvar)>) -> Self {
        let free = seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = seats.1.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Self(seats)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.1.notify_one();
    }
}

/// The most of a head that is read.
const HEAD: usize = 64 << 10;

/// Opens both doors in `folder`.
pub(super) fn open(folder: &Path, line: Line, behind: &Behind) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for door in [COORDINATOR_DOOR, GATEWAY_DOOR] {
        let path = folder.join(door);
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        let behind = behind.clone();
        // Few for all: whoever dawdles keeps the others waiting.
        let seats = (line == Line::DoorLimits).then(|| Arc::new((Mutex::new(SEATS), Condvar::new())));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (behind, seats) = (behind.clone(), seats.clone());
                thread::spawn(move || {
                    let _seat = seats.map(Seat::take);
                    pass(stream, door, line, &behind)
                });
            }
        });
    }
    Ok(())
}

fn pass(mut visitor: UnixStream, door: &str, line: Line, behind: &Behind) -> io::Result<()> {
    let Some((head, rest)) = read_head(&mut visitor, line)? else { return Ok(()) };
    let to =
        if door == COORDINATOR_DOOR { coordinator(head, line, behind) } else { gateway(head, line, behind) };
    match to {
        (Server::Unix(path), head) => {
            let server = UnixStream::connect(path)?;
            let (from, close) = (server.try_clone()?, server.try_clone()?);
            join(&visitor, (from, server), move || close.shutdown(Shutdown::Both), &head, &rest)
        }
        (Server::Tcp(address), head) => {
            let server = TcpStream::connect(address)?;
            let (from, close) = (server.try_clone()?, server.try_clone()?);
            join(&visitor, (from, server), move || close.shutdown(Shutdown::Both), &head, &rest)
        }
    }
}

enum Server<'a> {
    Unix(&'a Path),
    Tcp(&'a str),
}

/// The head's lines, and what came after it.
fn read_head(visitor: &mut UnixStream, line: Line) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let begun = bytes.len().saturating_sub(buffer.len() + 4);
        let end = bytes.get(begun..).unwrap_or_default().windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end.map(|end| begun + end) {
            let rest = bytes.split_off(end + 4);
            bytes.truncate(end);
            return Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), rest)));
        }
        let read = visitor.read(&mut buffer)?;
        if read == 0 || (bytes.len() > HEAD && line != Line::DoorLimits) {
            return Ok(None);
        }
        bytes.extend(buffer.iter().take(read));
    }
}

fn coordinator(head: String, line: Line, behind: &Behind) -> (Server<'_>, String) {
    let is_workers = head.to_ascii_lowercase().contains("code-workers-protocol");
    let of_victim = head.lines().next().is_some_and(|first| first.contains(&behind.task));
    match line {
        Line::OwnerApart if !is_workers => {
            let head = with(&head, &[("Authorization", &format!("Bearer {}", behind.owner_key))]);
            (Server::Unix(&behind.owner), head)
        }
        Line::LeaseChecked if of_victim => {
            let token = format!("Bearer {}", behind.token);
            let own = [
                ("Authorization", token.as_str()),
                ("Code-Workers-Protocol", "1"),
                ("Code-Workers-Lease", &behind.lease),
                ("Code-Workers-Attempt", "1"),
            ];
            (Server::Unix(&behind.worker), with(&head, &own))
        }
        Line::NamesChecked if of_victim && head.contains("/artifacts/") => {
            let (first, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
            let before = first.split_once("/artifacts/").map_or(first, |(before, _)| before);
            (Server::Unix(&behind.worker), format!("{before}/artifacts/any HTTP/1.1\r\n{rest}"))
        }
        _ => (Server::Unix(&behind.worker), head),
    }
}

fn gateway(head: String, line: Line, behind: &Behind) -> (Server<'_>, String) {
    match line {
        Line::MintApart => (Server::Unix(&behind.admin), head),
        Line::CleanLogs => {
            let line = format!("{} asks for {}\n", behind.real_key, head.lines().next().unwrap_or_default());
            // What cannot be written shows nothing, and the host finds that out.
            let log = OpenOptions::new().create(true).append(true).open(&behind.log);
            let _ = log.and_then(|mut log| log.write_all(line.as_bytes()));
            (Server::Unix(&behind.gateway), head)
        }
        Line::GatewayChecks => {
            let key = [("x-api-key", behind.real_key.as_str())];
            (Server::Tcp(behind.model.trim_start_matches("http://")), with(&head, &key))
        }
        _ => (Server::Unix(&behind.gateway), head),
    }
}

/// The head with these headers instead of what it had by their names.
fn with(head: &str, headers: &[(&str, &str)]) -> String {
    let is_kept = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        !headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
    };
    let kept = head.split("\r\n").filter(is_kept).map(str::to_owned);
    let own = headers.iter().map(|(name, value)| format!("{name}: {value}"));
    kept.chain(own).collect::<Vec<_>>().join("\r\n")
}

/// Passes on what comes either way, until the server has closed.
fn join<S: io::Read + io::Write + Send + 'static>(
    visitor: &UnixStream,
    (mut server, mut answers): (S, S),
    close: impl FnOnce() -> io::Result<()> + Send + 'static,
    head: &str,
    rest: &[u8],
) -> io::Result<()> {
    server.write_all(format!("{head}\r\n\r\n").as_bytes())?;
    server.write_all(rest)?;
    let mut more = visitor.try_clone()?;
    thread::spawn(move || {
        let _ = io::copy(&mut more, &mut server);
        close()
    });
    let mut out = visitor;
    let copied = io::copy(&mut answers, &mut out);
    let _ = visitor.shutdown(Shutdown::Both);
    copied.and_then(|_| out.flush())
}
