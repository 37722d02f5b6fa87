//! Where the doors are: ports of loopback in a sandbox, or of containers beside it.

use std::{
    env, fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use protocol::inside::{COORDINATOR_DOOR, DOORS, WORK};

use crate::{
    attack::Finding,
    http::{Answers, ask_tcp, ask_unix},
};

/// The coordinator's: `skia:7222`.
const COORDINATOR: u16 = 7222;
/// The gateway's, `authproxy:4000`, unless the agent was told another port.
const GATEWAY: u16 = 4000;

/// Asks the coordinator.
pub(super) fn coordinator(bytes: &[u8]) -> io::Result<Answers> {
    match bare() {
        Some(door) => ask_unix(&door, bytes),
        None => ask_tcp(coordinators(), bytes),
    }
}

/// The coordinator's door.
pub(super) fn coordinators() -> SocketAddr {
    SocketAddr::new(address("skia"), COORDINATOR)
}

/// Where a door's name leads; loopback where it has none. No name server is asked: there is none.
fn address(name: &str) -> IpAddr {
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let named = hosts.lines().find(|line| line.split_whitespace().skip(1).any(|other| other == name));
    let address = named.and_then(|line| line.split_whitespace().next()?.parse().ok());
    address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Asks the gateway, at the port that the agent was told.
pub(super) fn gateway(bytes: &[u8]) -> io::Result<Answers> {
    let told = env::var("GATEWAY").ok();
    let port = told.and_then(|url| url.rsplit(':').next()?.trim_end_matches('/').parse().ok());
    ask_tcp(SocketAddr::new(address("authproxy"), port.unwrap_or(GATEWAY)), bytes)
}

/// What an error at a door shows: to be cut off or left without an answer is to be held; to find no door is not.
pub(super) fn cut_off(error: &io::Error) -> Finding {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    if matches!(error.kind(), BrokenPipe | ConnectionReset | TimedOut | UnexpectedEof | WouldBlock) {
        Finding::Held(error.to_string())
    } else {
        Finding::NotApplicable(format!("the door is not there: {error}"))
    }
}

/// Without a sandbox, what would be inside is below the folder that holds the work tree.
fn bare() -> Option<PathBuf> {
    let work = env::current_dir().ok()?;
    let root = work.parent().filter(|root| *root != Path::new("/"))?;
    // A link to a shorter path.
    let doors = root.join(DOORS.trim_start_matches('/')).read_link().ok()?;
    let door = doors.join(COORDINATOR_DOOR);
    (work.ends_with(WORK.trim_start_matches('/')) && door.exists()).then_some(door)
}
