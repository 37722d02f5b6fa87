//! Addresses: parsed once, and checked for what they are to be used for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// The context that stands for every local one (`VMADDR_CID_ANY` in vsock(7)).
pub const VSOCK_ANY: u32 = u32::MAX;

/// An address of one of the three families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `tcp://HOST:PORT`; an IPv6 address stands in brackets.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// The port; 0 is any free one.
        port: u16,
    },
    /// `unix:///PATH`: absolute; longer than `sun_path` too.
    Unix(PathBuf),
    /// `vsock://CID:PORT`; `any` or `-1` is [`VSOCK_ANY`].
    Vsock {
        /// The context id: 2 is the hypervisor's host.
        cid: u32,
        /// The port.
        port: u32,
    },
}

/// An address that can be listened on: of TCP only loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress(Address);

/// An address that can be dialled: one peer, one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialAddress(Address);

/// Why a text is no address, or not one for this use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// No known scheme.
    #[error("{0:?} is not an address: write tcp://HOST:PORT, unix:///PATH or vsock://CID:PORT")]
    Scheme(String),
    /// A TCP address without a host or a port.
    #[error(
        "{0:?} needs a host and a port from 0 to 65535: write tcp://HOST:PORT (IPv6 as tcp://[::1]:PORT)"
    )]
    Tcp(String),
    /// A unix path that is not absolute, too long, or holds a NUL.
    #[error("{0:?} needs an absolute path to a file: write unix:///PATH")]
    Unix(String),
    /// A vsock address whose parts are not numbers.
    #[error("{0:?} needs two numbers: write vsock://CID:PORT, or vsock://any:PORT to listen")]
    Vsock(String),
    /// Listening where others than this machine could connect.
    #[error(
        "will not listen on {0}: only loopback is allowed; write tcp://127.0.0.1:PORT, or say --own-network in a container that has a network of its own"
    )]
    NotLoopback(Address),
    /// Dialling something that is not one peer.
    #[error("cannot dial {0}: name one peer and a port that is not 0")]
    NotAPeer(Address),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| AddressError::Scheme(text.to_owned()))?;
        match scheme {
            "tcp" => tcp(rest).ok_or_else(|| AddressError::Tcp(text.to_owned())),
            "unix" => unix(rest).ok_or_else(|| AddressError::Unix(text.to_owned())),
            "vsock" => vsock(rest).ok_or_else(|| AddressError::Vsock(text.to_owned())),
            _ => Err(AddressError::Scheme(text.to_owned())),
        }
    }
}

fn tcp(rest: &str) -> Option<Address> {
    let (host, port) = rest.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']').filter(|host| host.parse::<IpAddr>().is_ok())?,
        None => host,
    };
    let named =
        !host.is_empty() && !host.contains(['/', '[', ']', '@']) && !host.contains(char::is_whitespace);
    let bare_v6 = host.contains(':') && !rest.starts_with('[');
    (named && !bare_v6).then_some(Address::Tcp { host: host.to_owned(), port: number(port)? })
}

fn unix(rest: &str) -> Option<Address> {
    let path = PathBuf::from(rest);
    let bytes = path.as_os_str().as_bytes();
    let usable = path.is_absolute() && path.file_name().is_some() && !bytes.contains(&0);
    usable.then_some(Address::Unix(path))
}

fn vsock(rest: &str) -> Option<Address> {
    let (cid, port) = rest.split_once(':')?;
    let cid = if matches!(cid, "any" | "-1") { VSOCK_ANY } else { number(cid)? };
    Some(Address::Vsock { cid, port: number(port)? })
}

/// A number in plain digits: `from_str` alone would take a leading `+`.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(out, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(out, "tcp://{host}:{port}"),
            Self::Unix(path) => write!(out, "unix://{}", path.display()),
            Self::Vsock { cid: VSOCK_ANY, port } => write!(out, "vsock://any:{port}"),
            Self::Vsock { cid, port } => write!(out, "vsock://{cid}:{port}"),
        }
    }
}

impl ListenAddress {
    /// An address on any interface, for a relay whose network is its own, as a container's.
    #[must_use]
    pub const fn on_own_network(address: Address) -> Self {
        Self(address)
    }

    /// The address.
    #[must_use]
    pub fn get(&self) -> &Address {
        &self.0
    }
}

impl DialAddress {
    /// The address.
    #[must_use]
    pub fn get(&self) -> &Address {
        &self.0
    }
}

impl TryFrom<Address> for ListenAddress {
    type Error = AddressError;

    fn try_from(address: Address) -> Result<Self, AddressError> {
        match address {
            Address::Tcp { host, port } if host == "localhost" => {
                Ok(Self(Address::Tcp { host: Ipv4Addr::LOCALHOST.to_string(), port }))
            }
            Address::Tcp { ref host, .. } if !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) => {
                Err(AddressError::NotLoopback(address))
            }
            address => Ok(Self(address)),
        }
    }
}

impl TryFrom<Address> for DialAddress {
    type Error = AddressError;

    fn try_from(address: Address) -> Result<Self, AddressError> {
        match address {
            Address::Tcp { port: 0, .. } | Address::Vsock { cid: VSOCK_ANY, .. } => {
                Err(AddressError::NotAPeer(address))
            }
            address => Ok(Self(address)),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        text.parse::<Address>()?.try_into()
    }
}

impl FromStr for DialAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        text.parse::<Address>()?.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "tcp://127.0.0.1:7222",
            "tcp://[::1]:0",
            "tcp://coordinator.internal:80",
            "unix:///run/code-workers/worker.sock",
            "unix:///with space/ü.sock",
            "vsock://2:7222",
            "vsock://any:4294967295",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("vsock://-1:5".parse(), Ok(Address::Vsock { cid: VSOCK_ANY, port: 5 }));
    }

    #[test]
    fn what_is_no_address_says_what_to_write() {
        for (text, remedy) in [
            ("127.0.0.1:80", "tcp://HOST:PORT, unix:///PATH or vsock://CID:PORT"),
            ("http://127.0.0.1:80", "tcp://HOST:PORT, unix:///PATH or vsock://CID:PORT"),
            ("tcp://127.0.0.1", "write tcp://HOST:PORT"),
            ("tcp://:80", "write tcp://HOST:PORT"),
            ("tcp://127.0.0.1:65536", "from 0 to 65535"),
            ("tcp://127.0.0.1:+80", "write tcp://HOST:PORT"),
            ("tcp://::1:80", "tcp://[::1]:PORT"),
            ("tcp://[::1:80", "tcp://[::1]:PORT"),
            ("tcp://a/b:80", "write tcp://HOST:PORT"),
            ("unix://relative.sock", "absolute path"),
            ("unix://", "absolute path"),
            ("vsock://2", "vsock://CID:PORT"),
            ("vsock://host:80", "vsock://CID:PORT"),
            ("vsock://2:-1", "vsock://CID:PORT"),
        ] {
            let fault = text.parse::<Address>().unwrap_err().to_string();
            assert!(fault.contains(remedy) && fault.contains(text), "{text}: {fault}");
        }
    }

    #[test]
    fn tcp_is_listened_to_on_loopback_only() {
        for text in ["tcp://127.0.0.1:1", "tcp://127.9.9.9:1", "tcp://[::1]:1", "tcp://localhost:1"] {
            assert!(text.parse::<ListenAddress>().is_ok(), "{text}");
        }
        for text in ["tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://192.0.2.1:1", "tcp://example.org:1"] {
            let fault = text.parse::<ListenAddress>().unwrap_err();
            assert!(matches!(fault, AddressError::NotLoopback(_)), "{text}: {fault}");
        }
    }

    #[test]
    fn only_a_peer_is_dialled() {
        for text in ["tcp://127.0.0.1:0", "vsock://any:1", "vsock://-1:1"] {
            let fault = text.parse::<DialAddress>().unwrap_err();
            assert!(matches!(fault, AddressError::NotAPeer(_)), "{text}: {fault}");
        }
        assert!("vsock://2:1".parse::<DialAddress>().is_ok());
        assert!("vsock://any:1".parse::<ListenAddress>().is_ok());
    }
}
