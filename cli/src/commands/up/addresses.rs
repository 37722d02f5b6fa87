//! Where the two servers listen.

use std::{net::SocketAddr, os::unix::net::UnixStream, path::PathBuf};

use protocol::{
    folders::Folders,
    settings::{KeySource, Settings},
};

use crate::failure::{Exit, Failure};

/// The program that holds the real keys.
pub(super) const GATEWAY: &str = "code-workers-gateway";

/// Where a server answers.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// Port 0 is any port, which the server alone knows then.
    pub(super) tcp: SocketAddr,
    /// Its unix socket.
    pub(super) socket: PathBuf,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.tcp.port() {
            0 => write!(f, "unix://{}", self.socket.display()),
            _ => write!(f, "http://{}", self.tcp),
        }
    }
}

/// The servers'.
pub(super) struct Addresses {
    pub(super) coordinator: Address,
    /// `None` where another's is used.
    pub(super) gateway: Option<Address>,
}

impl Addresses {
    /// From the settings that the servers read too.
    pub(super) fn read(settings: &mut Settings, folders: &Folders) -> Self {
        let ours = settings.key_source() == KeySource::Builtin;
        let gateway = Address { tcp: settings.gateway_bind(), socket: folders.gateway_socket() };
        Self {
            coordinator: Address { tcp: settings.coordinator_bind(), socket: folders.owner_socket() },
            gateway: ours.then_some(gateway),
        }
    }

    /// The programs to run, and where each will answer.
    pub(super) fn of_programs(&self) -> impl Iterator<Item = (&'static str, &Address)> {
        let gateway = self.gateway.iter().map(|gateway| (GATEWAY, gateway));
        std::iter::once(("code-workers-coordinator", &self.coordinator)).chain(gateway)
    }

    /// Refuses to start beside servers of the same folders: their sockets would be taken for our own. (A TCP
    /// port that is taken, each server tells itself.)
    pub(super) fn require_free(&self) -> Result<(), Failure> {
        for (_, address) in self.of_programs() {
            if UnixStream::connect(&address.socket).is_ok() {
                let text = format!(
                    "code-workers is up already: something answers at {}\n\
                     end the other `code-workers up` or the services first, or set another XDG_DATA_HOME",
                    address.socket.display()
                );
                return Err(Failure::new(Exit::Failed, text));
            }
        }
        Ok(())
    }
}
