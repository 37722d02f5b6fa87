//! Launchers that another user has, or that are let loose only where nothing is to be hurt: this program once more, as
//! that user, and for `none` in namespaces of its own, whose loopback, processes and mounts are nobody's.

use std::process::Command;

use anyhow::Context as _;

use super::{launcher::Launcher, table::Report};

/// `nobody`.
const PLAIN_USER: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
/// What is in the namespaces ends with the first of it.
const APART: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"];
/// To keep one's name and may still set up loopback.
const AS_ONESELF: [&str; 3] = ["--user", "--map-current-user", "--keep-caps"];
const WITHOUT_RIGHTS: [&str; 3] = ["setpriv", "--inh-caps=-all", "--ambient-caps=-all"];

/// Has the attacks tried there.
pub(super) fn run(launcher: Launcher, attacks: &[String]) -> anyhow::Result<Report> {
    let is_root = rustix::process::geteuid().is_root();
    let mut words: Vec<&str> = Vec::new();
    if launcher == Launcher::None {
        words.push("unshare");
        words.extend(if is_root { &[][..] } else { &AS_ONESELF });
        words.extend(APART);
        words.extend(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    }
    words.extend(if is_root { &PLAIN_USER[..] } else { &WITHOUT_RIGHTS });
    let (program, own) = (words.first().context("nothing to start")?, std::env::current_exe()?);
    let mut command = Command::new(program);
    command.args(words.get(1..).unwrap_or_default()).arg(own);
    let part = launcher.to_string();
    command.args(["host", "--json", "--part", &part]).args(attacks).current_dir("/");
    let ran = super::place::run(&mut command)?;
    serde_json::from_str(&ran.out).with_context(|| ran.err.trim().to_owned())
}
