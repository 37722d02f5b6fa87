//! What sandboxes can be had here, for `code-workers doctor`.

use std::path::PathBuf;

use protocol::ids::QueueName;
use protocol::settings::EXIT_BAD_CONFIGURATION;
use sandbox::{MemoryLimit, Runsc};
use serde_json::{Value, json};

use crate::launcher::probe;
use crate::settings::{self, Wish};
use crate::tell::{tell, tell_error};

/// Starts a sandbox that does nothing, and says what it found; answers the exit code.
pub(crate) async fn run(file: Option<PathBuf>) -> u8 {
    let queue: QueueName = match "probe".parse() {
        Ok(queue) => queue,
        Err(error) => {
            tell_error(&format!("{error}"));
            return EXIT_BAD_CONFIGURATION;
        }
    };
    let config = match settings::config(Wish { queue, parallel: 1, once: true, agent: None }, file) {
        Ok(config) => config,
        Err(faults) => {
            tell_error(&faults.to_string());
            return EXIT_BAD_CONFIGURATION;
        }
    };
    match probe(&config).await {
        Ok(runsc) => {
            tell(&report(&runsc).to_string());
            0
        }
        Err(error) => {
            tell_error(&format!("{error:#}"));
            1
        }
    }
}

/// `found`, one line, and `warnings`, a sentence each.
fn report(runsc: &Runsc) -> Value {
    let who = if runsc.rootless() { "as a plain user" } else { "as root" };
    let memory = match runsc.memory() {
        MemoryLimit::Cgroup(_) => "memory and CPU limited by a cgroup",
        MemoryLimit::AddressSpace => "no cgroup",
    };
    let platform = serde_json::to_value(runsc.platform()).unwrap_or_default();
    let platform = platform.as_str().unwrap_or("platform not known").to_owned();
    let found = format!("{} {} ({platform}), {who}, {memory}", runsc.program().display(), runsc.version());
    json!({"found": found, "warnings": runsc.warnings()})
}
