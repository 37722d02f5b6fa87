//! Relays: ours, and what it is held against, each from TCP to a server's door.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
};

use e2e::Process;

use super::{far_end::Door, installed};

/// What relays, or that nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    /// Nothing: the client dials the server.
    Direct,
    /// Ours.
    CodeWorkers,
    /// socat as its manual shows it: a process for each connection, 8 KiB at once.
    Socat,
    /// systemd's, behind systemd-socket-activate.
    Proxyd,
}

/// A running relay.
pub(crate) struct Relay {
    pub(crate) system: System,
    pub(crate) behind: Door,
    /// Where clients connect.
    pub(crate) door: Door,
    pub(crate) process: Option<Process>,
}

impl System {
    pub(crate) const ALL: [Self; 4] = [Self::Direct, Self::CodeWorkers, Self::Socat, Self::Proxyd];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::CodeWorkers => "code-workers",
            Self::Socat => "socat",
            Self::Proxyd => "systemd-socket-proxyd",
        }
    }
}

impl Relay {
    /// Starts one, where it is installed, and waits until it relays.
    pub(crate) async fn start(system: System, behind: &Door) -> Option<Self> {
        let (process, door) = match system {
            System::Direct => (None, behind.clone()),
            System::CodeWorkers => ours(behind),
            System::Socat => socat(behind)?,
            System::Proxyd => proxyd(behind)?,
        };
        while door.try_connect().await.is_err() {
            tokio::time::sleep(super::LOOK_AGAIN).await;
        }
        Some(Self { system, behind: behind.clone(), door, process })
    }
}

fn ours(behind: &Door) -> (Option<Process>, Door) {
    let own = std::env::current_exe().expect("this program has a path");
    let program = own.with_file_name("code-workers-relay");
    assert!(program.is_file(), "{} is not built: cargo build --release", program.display());
    let dial = match behind {
        Door::Tcp(address) => format!("tcp://{address}"),
        Door::Unix(path) => format!("unix://{}", path.display()),
    };
    let mut command = Command::new(program);
    let mut process = Process::start(
        "code-workers-relay",
        command.args(["--listen", "tcp://127.0.0.1:0", "--dial", &dial, "--max-connections", "4096"]),
    );
    let told = process.wait_for("listening on tcp://");
    let address = told.rsplit_once("tcp://").and_then(|(_, address)| address.parse().ok());
    (Some(process), Door::Tcp(address.expect("an address and a port")))
}

/// A port that was free a moment ago: these take no port 0.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn socat(behind: &Door) -> Option<(Option<Process>, Door)> {
    let program = installed(&["socat"])?;
    let address = free_port();
    let listen = format!("TCP4-LISTEN:{},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=4096", address.port());
    let dial = match behind {
        Door::Tcp(address) => format!("TCP4:{address},nodelay"),
        Door::Unix(path) => format!("UNIX-CONNECT:{}", path.display()),
    };
    let process = Process::start("socat", Command::new(program).args([listen, dial]));
    Some((Some(process), Door::Tcp(address)))
}

fn proxyd(behind: &Door) -> Option<(Option<Process>, Door)> {
    let activate = installed(&["systemd-socket-activate"])?;
    let program =
        ["/lib/systemd/systemd-socket-proxyd", "/usr/lib/systemd/systemd-socket-proxyd"].map(PathBuf::from);
    let program = program.into_iter().find(|program| program.is_file())?;
    let address = free_port();
    let dial = match behind {
        Door::Tcp(address) => address.to_string(),
        Door::Unix(path) => path.display().to_string(),
    };
    let mut command = Command::new(activate);
    command.args(["-l", &address.to_string()]).arg(program).args(["--connections-max=4096", &dial]);
    Some((Some(Process::start("systemd-socket-proxyd", &mut command)), Door::Tcp(address)))
}
