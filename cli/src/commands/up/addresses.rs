//! Where the two servers listen.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use protocol::settings::{Key, Settings};

use crate::failure::{Exit, Failure};

/// Both addresses. That they are loopback is the servers' own rule.
pub(super) struct Addresses {
    pub(super) coordinator: SocketAddr,
    pub(super) gateway: SocketAddr,
}

impl Addresses {
    /// From the settings that the servers read too.
    pub(super) fn read(settings: &mut Settings) -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            coordinator: settings.or(&Key::COORDINATOR_BIND, local(7222)),
            gateway: settings.or(&Key::GATEWAY_BIND, local(4000)),
        }
    }

    /// The programs to run, and where each will answer.
    pub(super) fn of_programs(&self) -> [(&'static str, SocketAddr); 2] {
        [("code-workers-coordinator", self.coordinator), ("code-workers-gateway", self.gateway)]
    }

    /// Refuses an address that something listens on: what answers there would be taken for our own server.
    pub(super) fn require_free(&self) -> Result<(), Failure> {
        for (address, variable) in [(self.coordinator, "COORDINATOR_BIND"), (self.gateway, "GATEWAY_BIND")] {
            if let Err(error) = TcpListener::bind(address) {
                let text = format!(
                    "{address} cannot be listened on: {error}\n\
                     end the program that has it (perhaps another `code-workers up`), or set {variable}"
                );
                return Err(Failure::new(Exit::BadConfiguration, text));
            }
        }
        Ok(())
    }
}
