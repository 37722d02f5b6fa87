//! The containers that are a sandbox's doors where it is on a network.

use std::net::IpAddr;

use super::render::{Addresses, shim_arguments, shim_name};
use super::{Docker, Joined, Network, client};
use crate::policy::{Policy, SandboxId};

/// Starts the shims of a sandbox, and answers where each is. None where it has no network.
pub(super) async fn start(policy: &Policy, docker: &Docker) -> Result<Addresses, String> {
    let Network::Joined(joined) = &docker.network else { return Ok(Addresses::new()) };
    let mut addresses = Addresses::new();
    for shim in &joined.shims {
        let line = shim_arguments(policy, docker, joined, shim);
        client::ask(&docker.program, line)
            .await
            .map_err(|error| format!("the door {}: {error}", shim.alias))?;
        let name = shim_name(&policy.id, shim);
        let address = address(docker, joined, &name).await;
        addresses
            .push((shim.alias.clone(), address.map_err(|why| format!("the door {}: {why}", shim.alias))?));
    }
    Ok(addresses)
}

async fn address(docker: &Docker, joined: &Joined, name: &str) -> Result<String, String> {
    let format = format!("{{{{(index .NetworkSettings.Networks {:?}).IPAddress}}}}", joined.name);
    let told = client::ask(&docker.program, ["inspect", "--format", &format, name]).await;
    let told = told.map_err(|error| error.to_string())?;
    let address: Result<IpAddr, _> = told.trim().parse();
    address
        .map(|address| address.to_string())
        .map_err(|_| format!("it has no address on {}: {told:?}", joined.name))
}

/// The names of all containers that a sandbox may have.
pub(super) fn names(docker: &Docker, id: &SandboxId) -> Vec<String> {
    let shims = match &docker.network {
        Network::None => &[],
        Network::Joined(joined) => joined.shims.as_slice(),
    };
    let shims = shims.iter().map(|shim| shim_name(id, shim));
    std::iter::once(super::render::name(id)).chain(shims).collect()
}
