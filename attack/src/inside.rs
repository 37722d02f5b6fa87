//! What runs in the sandbox, as the agent.

pub(crate) mod coordinator;
mod door;
mod files;
mod gateway;
pub(crate) mod handed;
pub(crate) mod ipc;
mod kernel;
mod keys;
pub(crate) mod network;
pub(crate) mod resources;
pub(crate) mod results;
pub(crate) mod syscall;

use std::{
    fs,
    io::{self, Read as _, Write},
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    attack::{Attack, Told},
    line::Line,
    target::Target,
};

pub(crate) use coordinator::REPORT;

/// Every attack there is.
pub(crate) fn all() -> impl Iterator<Item = &'static Attack> {
    let categories = [
        network::ATTACKS,
        files::ATTACKS,
        kernel::ATTACKS,
        ipc::ATTACKS,
        keys::ATTACKS,
        coordinator::ATTACKS,
        gateway::ATTACKS,
        resources::ATTACKS,
        // The last: they leave what the worker is to take.
        handed::ATTACKS,
        results::ATTACKS,
    ];
    categories.into_iter().flatten()
}

/// Whether the attacker hands a result over itself.
pub(crate) fn is_handed(attack: &Attack) -> bool {
    handed::ATTACKS.iter().any(|handed| handed.name == attack.name)
}

/// What one task is to try: the agent's prompt, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) attacks: Vec<String>,
    /// The line that was taken away.
    pub(crate) without: Option<Line>,
    pub(crate) target: Target,
}

/// Where the attacker beside the worker hears what to try, and answers.
pub(crate) const BESIDE: &str = "/tmp/attack.sock";

/// Tries what it is told to, and prints a line about each.
pub(crate) fn run(orders: &str) -> anyhow::Result<()> {
    let parsed: Orders = serde_json::from_str(orders)?;
    if matches!(parsed.without, Some(Line::AgentUser | Line::Capabilities)) {
        return ask_beside(orders);
    }
    try_all(&parsed, &mut io::stdout())
}

fn try_all(orders: &Orders, out: &mut impl Write) -> anyhow::Result<()> {
    for attack in all().filter(|attack| orders.attacks.iter().any(|name| name == attack.name)) {
        let told = Told { attack: attack.name.to_owned(), finding: (attack.act)(&orders.target) };
        writeln!(out, "{}", serde_json::to_string(&told)?)?;
        out.flush()?;
    }
    Ok(())
}

/// The attacker beside the worker: waits for the agent's orders.
pub(crate) fn beside() -> anyhow::Result<()> {
    let listener = UnixListener::bind(BESIDE)?;
    fs::set_permissions(BESIDE, fs::Permissions::from_mode(0o666))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut orders = String::new();
        stream.read_to_string(&mut orders)?;
        try_all(&serde_json::from_str(&orders)?, &mut stream)?;
    }
    Ok(())
}

fn ask_beside(orders: &str) -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(BESIDE)?;
    stream.write_all(orders.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream, &mut io::stdout())?;
    Ok(())
}
