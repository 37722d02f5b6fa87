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

/// More than an attacker writes, and less than a host minds.
const ROOM: u64 = 1 << 30;

/// A PID 1 that waits for its own child alone.
const NO_REAPER: &str = "$p = fork; exec @ARGV unless $p; select(undef, undef, undef, 0.1) until waitpid($p, 1) == $p; exit($? >> 8)";

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
        Line::CoreLimit => unlimited(spec, "RLIMIT_CORE")?,
        Line::Processes => unlimited(spec, "RLIMIT_NPROC")?,
        Line::OpenFiles => unlimited(spec, "RLIMIT_NOFILE")?,
        Line::FileSize => unlimited(spec, "RLIMIT_FSIZE")?,
        Line::WorkSize => {
            let options = &mut spec["annotations"]["dev.gvisor.spec.mount.work.options"];
            let others: Vec<_> =
                options.as_str()?.split(',').filter(|option| !option.starts_with("size=")).collect();
            *options = format!("{},size={ROOM}", others.join(",")).into();
        }
        Line::TmpSize => {
            let tmp =
                spec["mounts"].as_array_mut()?.iter_mut().find(|mount| mount["destination"] == "/tmp")?;
            let options = tmp["options"].as_array_mut()?;
            options.retain(|option| !option.as_str().is_some_and(|option| option.starts_with("size=")));
        }
        Line::Reaping => {
            let init = spec["process"]["args"].as_array()?.clone();
            let perl = ["/usr/bin/perl", "-e", NO_REAPER].map(Value::from);
            spec["process"]["args"] = perl.into_iter().chain(init).collect();
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

/// Far above what gVisor's own default could be.
fn unlimited(spec: &mut Value, kind: &str) -> Option<()> {
    let limit = spec["process"]["rlimits"].as_array_mut()?.iter_mut().find(|limit| limit["type"] == kind)?;
    limit["hard"] = u64::MAX.into();
    limit["soft"] = u64::MAX.into();
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
        let rlimit = |kind| json!({ "type": format!("RLIMIT_{kind}"), "hard": 0, "soft": 0 });
        let rlimits = ["CORE", "NPROC", "NOFILE", "FSIZE"].map(rlimit);
        json!({
            "process": {
                "args": ["/opt/code-workers/bin/code-workers-worker", "init"],
                "env": ["PATH=/usr/bin"],
                "capabilities": { "bounding": [], "effective": [], "permitted": [] },
                "rlimits": rlimits,
            },
            "annotations": { "dev.gvisor.spec.mount.work.options": "mode=0755,size=7" },
            "root": { "path": "/root-folder", "readonly": true },
            "mounts": [
                { "destination": MIRROR, "type": "bind", "source": "/m", "options": ["rbind", "ro"] },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=7"] },
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
            let elsewhere =
                matches!(line, Line::FolderModes | Line::CleanMirror | Line::CleanRepository | Line::Kernel)
                    || line.takes_a_task();
            assert_eq!(edited == spec(), elsewhere, "{line}: {edited:#}");
        }
    }
}
