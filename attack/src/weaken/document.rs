//! The OCI document without a line. Pure.

use std::path::Path;

use protocol::inside::{AGENT_PROGRAMS, DOORS, MIRROR};
use serde_json::{Value, json};

use super::Weakening;
use crate::{inside::BESIDE, line::Line};

/// What an attacker has use for, beside those that the worker has.
const CAPABILITIES: [&str; 18] = [
    "CHOWN",
    "KILL",
    "SETGID",
    "SETUID",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "MKNOD",
    "NET_ADMIN",
    "NET_RAW",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
];

/// Takes the line out of the document; `None` where that has another form than the one that is known.
pub(super) fn edit(spec: &mut Value, weakening: &Weakening) -> Option<()> {
    let stand_in = |name: &str| weakening.stand_in.join(name);
    match weakening.line {
        // runsc would make another namespace.
        Line::Network => {
            let namespaces = spec["linux"]["namespaces"].as_array_mut()?;
            namespaces.retain(|namespace| namespace["type"] != "network");
        }
        Line::HostFolders => {
            bind(spec, &weakening.home, &weakening.home, "ro")?;
            bind(spec, &weakening.home, Path::new("/root"), "ro")?;
            bind(spec, &stand_in("shadow"), Path::new("/etc/shadow"), "ro")?;
        }
        Line::HostSockets => {
            bind(spec, &stand_in("sockets"), Path::new("/run/podman"), "ro")?;
            bind(spec, &stand_in("run"), &weakening.run, "ro")?;
        }
        Line::HostProc => bind(spec, &stand_in("proc"), Path::new("/host/proc"), "ro")?,
        Line::ReadOnly => {
            spec["root"]["readonly"] = false.into();
            for mount in spec["mounts"].as_array_mut()? {
                if mount["destination"] == MIRROR || mount["destination"] == AGENT_PROGRAMS {
                    mount["options"] = json!(["rbind", "rw"]);
                }
            }
            bind(spec, &stand_in("usr-local"), Path::new("/usr/local"), "rw")?;
        }
        Line::AgentUser | Line::Capabilities => beside_worker(spec, weakening.line)?,
        Line::CleanEnvironment => {
            let key = format!("ANTHROPIC_API_KEY={}", weakening.key);
            spec["process"]["env"].as_array_mut()?.push(key.into());
        }
        Line::CleanArguments => {
            before_init(spec, &format!("/bin/sh -c 'while :; do sleep 1000; done' {} &", weakening.key))?;
        }
        Line::CoreLimit => {
            spec["process"]["rlimits"].as_array_mut()?.retain(|limit| limit["type"] != "RLIMIT_CORE");
        }
        line if line.is_a_doors() => {
            let doors =
                spec["mounts"].as_array_mut()?.iter_mut().find(|mount| mount["destination"] == DOORS)?;
            doors["source"] = weakening.doors.to_str()?.into();
        }
        _ => {}
    }
    Some(())
}

fn beside_worker(spec: &mut Value, line: Line) -> Option<()> {
    if line == Line::Capabilities {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = CAPABILITIES.map(|name| format!("CAP_{name}")).into();
        }
    }
    let program = format!("{AGENT_PROGRAMS}/attack/bin/code-workers-attack");
    before_init(spec, &format!("{program} beside & while [ ! -S {BESIDE} ]; do sleep 0.02; done"))
}

/// Has a shell do something first, beside the worker and as its user.
fn before_init(spec: &mut Value, what: &str) -> Option<()> {
    let init = spec["process"]["args"].as_array()?.clone();
    let script = format!("{what}\nexec \"$@\"");
    let shell = ["/bin/sh", "-c", &script, "sh"].map(Value::from);
    spec["process"]["args"] = shell.into_iter().chain(init).collect();
    Some(())
}

fn bind(spec: &mut Value, host: &Path, inside: &Path, mode: &str) -> Option<()> {
    let mount = json!({ "destination": inside, "type": "bind", "source": host, "options": ["rbind", mode] });
    spec["mounts"].as_array_mut()?.push(mount);
    Some(())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    fn spec() -> Value {
        json!({
            "process": {
                "args": ["/opt/code-workers/bin/code-workers-worker", "init"],
                "env": ["PATH=/usr/bin"],
                "capabilities": { "bounding": [], "effective": [], "permitted": [] },
                "rlimits": [{ "type": "RLIMIT_CORE", "hard": 0, "soft": 0 }],
            },
            "root": { "path": "/root-folder", "readonly": true },
            "mounts": [
                { "destination": MIRROR, "type": "bind", "source": "/m", "options": ["rbind", "ro"] },
                { "destination": DOORS, "type": "bind", "source": "/o", "options": ["rbind", "rw"] },
            ],
            "linux": { "namespaces": [{ "type": "network" }, { "type": "pid" }] },
        })
    }

    #[test]
    fn a_line_that_is_in_the_document_is_taken_out_of_it() {
        for line in Line::value_variants() {
            let weakening = Weakening {
                line: *line,
                runsc: "/runsc".into(),
                home: "/h".into(),
                stand_in: "/s".into(),
                doors: "/d".into(),
                run: "/r".into(),
                key: "k".to_owned(),
                loopback: Vec::new(),
            };
            let mut edited = spec();
            assert!(edit(&mut edited, &weakening).is_some(), "{line}");
            let elsewhere = matches!(line, Line::FolderModes | Line::CleanMirror | Line::Kernel);
            assert_eq!(edited == spec(), elsewhere, "{line}: {edited:#}");
        }
    }
}
