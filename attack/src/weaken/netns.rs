//! A network namespace that bears addresses of the world, so that an attacker with a network finds somebody without
//! a packet leaving the machine.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    process::{Command, Stdio},
    thread,
};

use anyhow::Context as _;
use rustix::{
    process::{Signal, set_parent_process_death_signal},
    thread::UnshareFlags,
};

use super::Weakening;
use crate::inside::{
    ipc::KINDS,
    network::{METADATA, NEIGHBOURS, RESOLVER, WORLD, WORLD6},
    syscall::NO_CALLER,
};

/// The ports of [`serve`], beside those of the host's loopback.
const TCP: [u16; 2] = [443, 80];
const UDP: [u16; 2] = [9, 53];

/// Moves this process into a new namespace, and starts [`serve`] there as a child that ends with it.
#[expect(deprecated, reason = "unsafe is what unshares memory; a network namespace is none")]
pub(super) fn enter(weakening: &Weakening) -> anyhow::Result<()> {
    rustix::thread::unshare(UnshareFlags::NEWNET).context("a network namespace takes root")?;
    ip("link set lo up")?;
    ip("link add world type bridge")?;
    ip("link set world up")?;
    for address in [WORLD, RESOLVER, METADATA].into_iter().chain(NEIGHBOURS) {
        ip(&format!("addr add {address}/32 dev world"))?;
    }
    ip(&format!("addr add {WORLD6}/128 dev world nodad"))?;
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")?;
    let mut serve = Command::new(std::env::current_exe()?);
    serve.arg("serve").args(weakening.loopback.iter().map(ToString::to_string));
    let mut child = serve.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    // Its one byte: all ports are bound.
    child.stdout.take().context("no pipe")?.read_exact(&mut [0])?;
    Ok(())
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    let status = Command::new("ip").args(arguments.split(' ')).status().context("ip (iproute2) is needed")?;
    anyhow::ensure!(status.success(), "ip {arguments}: {status}");
    Ok(())
}

/// Answers on the ports of the world and on these, until its parent ends.
pub(crate) fn serve(abstract_socket: Option<&str>, shared: Option<i32>, ports: &[u16]) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let named = abstract_socket.map(|name| UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?));
    let _named = named.transpose()?;
    if let Some(key) = shared {
        for kind in KINDS {
            kind.make(key).context(NO_CALLER)??;
        }
    }
    for port in TCP.iter().chain(ports) {
        // Both families: the address is v6's any.
        let listener = TcpListener::bind(("::", *port))?;
        thread::spawn(move || listener.incoming().flatten().for_each(drop));
    }
    for port in UDP {
        let socket = UdpSocket::bind(("::", port))?;
        thread::spawn(move || echo(&socket));
    }
    std::io::stdout().write_all(b".")?;
    std::io::stdout().flush()?;
    loop {
        thread::park();
    }
}

fn echo(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), from);
    }
}
