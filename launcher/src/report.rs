//! What sandboxes can be had here, for `code-workers doctor`.

use std::path::PathBuf;

use protocol::ids::QueueName;
use protocol::settings::EXIT_BAD_CONFIGURATION;
use sandbox::{MemoryLimit, Runsc, Runtime};
use serde_json::json;

use crate::launcher::probe;
use crate::settings::{self, Wish};
use crate::tell::{tell, tell_error};

/// Starts a sandbox that does nothing, and says what it found: `found`, one line, and `warnings`, a sentence each.
/// Answers the exit code.
pub(crate) async fn run(file: Option<PathBuf>) -> u8 {
    let queue: QueueName = match "probe".parse() {
        Ok(queue) => queue,
        Err(error) => {
            tell_error(&format!("{error}"));
            return EXIT_BAD_CONFIGURATION;
        }
    };
    let config = match settings::config(
        Wish { queue, parallel: 1, once: true, agent: None, sandbox: None, image: None, network: None },
        file,
    ) {
        Ok(config) => config,
        Err(faults) => {
            tell_error(&faults.to_string());
            return EXIT_BAD_CONFIGURATION;
        }
    };
    match probe(&config).await {
        Ok(runtime) => {
            tell(&json!({"found": found(&runtime), "warnings": runtime.warnings()}).to_string());
            0
        }
        Err(error) => {
            tell_error(&format!("{error:#}"));
            1
        }
    }
}

/// What there is, in one line.
fn found(runtime: &Runtime) -> String {
    match runtime {
        Runtime::Gvisor(runsc) => found_runsc(runsc),
        other => other.describe(),
    }
}

fn found_runsc(runsc: &Runsc) -> String {
    let who = if runsc.rootless() { "as a plain user" } else { "as root" };
    let memory = match runsc.memory() {
        MemoryLimit::Cgroup(cgroups) if cgroups.limit_cpu() => "memory and CPU limited by a cgroup",
        MemoryLimit::Cgroup(_) => "memory limited by a cgroup, CPU not",
        MemoryLimit::AddressSpace => "no cgroup",
    };
    let platform = serde_json::to_value(runsc.platform()).unwrap_or_default();
    let platform = platform.as_str().unwrap_or("platform not known").to_owned();
    format!("{} {} ({platform}), {who}, {memory}", runsc.program().display(), runsc.version())
}
