//! Ways out over a network.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixStream},
    },
    path::PathBuf,
    time::Duration,
};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

use crate::{
    attack::{Attack, Category::Network, Finding},
    line::Line,
    target::Target,
};

/// How long anybody out there may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Addresses of the world that answer where there is a way out. They are the ones that the namespace of the weakened
/// sandbox bears.
pub(crate) const WORLD: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);
pub(crate) const WORLD6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111);
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
pub(crate) const NEIGHBOURS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(172, 17, 0, 1), Ipv4Addr::new(192, 168, 1, 1)];

const fn attack(name: &'static str, tries: &'static str, act: fn(&Target) -> Finding) -> Attack {
    Attack { name, category: Network, tries, line: Line::Network, act }
}

pub(crate) const ATTACKS: &[Attack] = &[
    attack("tcp-out", "a TCP connection to an address of the world", |_| tcp([IpAddr::V4(WORLD)], 443)),
    attack("tcp6-out", "the same with IPv6", |_| tcp([IpAddr::V6(WORLD6)], 443)),
    attack("udp-out", "a datagram to an address of the world, and its answer", |_| udp(WORLD, 9, b"marco")),
    attack("dns-out", "a question to a resolver of the world", |_| udp(RESOLVER, 53, DNS_QUESTION)),
    attack("icmp-out", "an echo request to an address of the world", |_| icmp()),
    attack("metadata", "the metadata service of clouds, 169.254.169.254", |_| {
        tcp([IpAddr::V4(METADATA)], 80)
    }),
    attack("neighbours", "a host of the local network, and Docker's bridge", |_| {
        tcp(NEIGHBOURS.map(IpAddr::V4), 80)
    }),
    attack("interfaces", "an interface beside loopback", |_| interfaces()),
    attack(
        "host-loopback",
        "what listens on the host's 127.0.0.1: coordinator, gateway and others",
        |target| {
            Finding::all(target.loopback.iter().map(|port| tcp([IpAddr::V4(Ipv4Addr::LOCALHOST)], *port)))
        },
    ),
    Attack {
        line: Line::Capabilities,
        ..attack("raw-socket", "packets of its own making", |_| raw_socket())
    },
    Attack {
        line: Line::Capabilities,
        ..attack("packet-socket", "frames of its own making", |_| packet_socket())
    },
    Attack {
        line: Line::Capabilities,
        ..attack("netlink", "another address for an interface", |_| netlink())
    },
    Attack { line: Line::Kernel, ..attack("vsock", "the hypervisor's sockets", |_| vsock()) },
    Attack {
        line: Line::Kernel,
        ..attack("abstract-socket", "a socket of the host that has no file", abstract_socket)
    },
    Attack {
        line: Line::HostSockets,
        ..attack("container-sockets", "Docker, containerd, podman, CRI-O, systemd and D-Bus", |_| {
            any_socket(CONTAINER_SOCKETS.iter().map(PathBuf::from))
        })
    },
    Attack {
        line: Line::HostSockets,
        ..attack("owner-socket", "the coordinator's door for its owner", |target| {
            any_socket([target.run.join("owner.sock")])
        })
    },
    Attack {
        line: Line::HostSockets,
        ..attack("mint-socket", "the gateway's door that makes keys", |target| {
            any_socket([target.run.join("gateway-admin.sock")])
        })
    },
    Attack {
        line: Line::HostSockets,
        ..attack("other-doors", "the doors of another sandbox", |target| {
            let sandboxes = target.run.join("sandboxes");
            let found = fs::read_dir(&sandboxes).into_iter().flatten().flatten().map(|folder| folder.path());
            any_socket(
                found.chain([sandboxes.join("other")]).map(|folder| folder.join("doors/coordinator.sock")),
            )
        })
    },
];

/// Where those who make containers listen.
const CONTAINER_SOCKETS: [&str; 9] = [
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/containerd/s/0",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/systemd/private",
    "/run/dbus/system_bus_socket",
    "/var/run/kubelet.sock",
];

fn any_socket(paths: impl IntoIterator<Item = PathBuf>) -> Finding {
    Finding::all(paths.into_iter().map(|path| {
        let tried = UnixStream::connect(&path).map_err(|error| format!("{}: {error}", path.display()));
        Finding::of(tried, &format!("connected to {}", path.display()))
    }))
}

fn raw_socket() -> Finding {
    let open = |family, protocol| {
        let opened = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol));
        Finding::of(opened, "a raw socket is open")
    };
    Finding::all([open(AddressFamily::INET, ipproto::ICMP), open(AddressFamily::INET6, ipproto::ICMPV6)])
}

fn packet_socket() -> Finding {
    let opened = |kind| rustix::net::socket_with(AddressFamily::PACKET, kind, SocketFlags::CLOEXEC, None);
    Finding::all(
        [SocketType::RAW, SocketType::DGRAM].map(|kind| Finding::of(opened(kind), "a packet socket is open")),
    )
}

/// RTM_NEWADDR (rtnetlink(7)): 192.0.2.1/32 on the first interface, and the kernel's answer.
fn netlink() -> Finding {
    const MESSAGE: [u8; 32] = [
        // Length, type, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, sequence, port
        32, 0, 0, 0, 20, 0, 5, 4, 1, 0, 0, 0, 0, 0, 0, 0, //
        // AF_INET, /32, flags, scope, index
        2, 32, 0, 0, 1, 0, 0, 0, //
        // IFA_LOCAL
        8, 0, 2, 0, 192, 0, 2, 1,
    ];
    let ask = || -> io::Result<()> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is 0.
            None,
        )?;
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(PATIENCE),
        )?;
        rustix::net::send(&socket, &MESSAGE, SendFlags::empty())?;
        let mut answer = [0_u8; 256];
        rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
        // NLMSG_ERROR carries an errno, negated; 0 is the acknowledgement.
        let error = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map_or(-1, i32::from_ne_bytes);
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-error)) }
    };
    Finding::of(ask(), "the address is set")
}

fn vsock() -> Finding {
    let opened =
        rustix::net::socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    Finding::of(opened, "AF_VSOCK is there")
}

fn abstract_socket(target: &Target) -> Finding {
    let connected = UnixAddr::from_abstract_name(&target.abstract_socket)
        .and_then(|address| UnixStream::connect_addr(&address));
    Finding::of(connected, "connected")
}

/// `example.com`, type A (RFC 1035).
const DNS_QUESTION: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";

fn tcp<const N: usize>(to: [IpAddr; N], port: u16) -> Finding {
    Finding::all(to.map(|address| {
        let to = SocketAddr::new(address, port);
        Finding::of(TcpStream::connect_timeout(&to, PATIENCE), &format!("connected to {to}"))
    }))
}

fn udp(to: Ipv4Addr, port: u16, question: &[u8]) -> Finding {
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(question, (to, port))?;
        socket.recv_from(&mut [0; 512])
    };
    Finding::of(ask(), &format!("{to}:{port} answered"))
}

fn icmp() -> Finding {
    let ask = || -> io::Result<usize> {
        let socket = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(ipproto::ICMP),
        )?;
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(PATIENCE),
        )?;
        // Type 8, code 0; the checksum is the kernel's or 0xf7ff - id and sequence are zero.
        let request = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
        rustix::net::sendto(&socket, &request, SendFlags::empty(), &SocketAddr::from((WORLD, 0)))?;
        Ok(rustix::net::recv(&socket, &mut [0_u8; 64], RecvFlags::empty())?.0)
    };
    Finding::of(ask(), &format!("{WORLD} answered"))
}

fn interfaces() -> Finding {
    let Ok(listed) = fs::read_to_string("/proc/net/dev") else {
        return Finding::NotApplicable("/proc/net/dev cannot be read".to_owned());
    };
    let names = listed.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let others: Vec<_> = names.filter(|name| *name != "lo").collect();
    Finding::none_of(&others, "other interface")
}
