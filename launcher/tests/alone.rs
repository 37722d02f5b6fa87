//! The launcher without a coordinator, without a runsc, and with a configuration that is none.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A launcher in a home of its own. What stands beside it is never run here.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::copy(env!("CARGO_BIN_EXE_code-workers-launcher"), home.path("code-workers-launcher")).unwrap();
        home.program("code-workers-worker", "");
        home.program("code-workers-relay", "");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, script: &str) -> PathBuf {
        fs::write(self.path(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).unwrap();
        self.path(name)
    }

    fn launcher(&self) -> Command {
        let mut command = Command::new(self.path("code-workers-launcher"));
        command.env_clear().env("HOME", self.0.path()).env("PATH", std::env::var("PATH").unwrap());
        command.env("FORTRESS_API_KEY", "key").current_dir(self.0.path()).arg("demo");
        command
    }

    fn fails(&self, command: &mut Command, code: i32) -> String {
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{told}");
        told
    }
}

#[test]
fn every_fault_of_a_configuration_is_told_at_once() {
    let home = Home::new();
    fs::write(home.path("config.toml"), "[sandbox]\nmemory_mb = 0\ntoolchains = [\"/not/there\"]\n").unwrap();
    let mut command = home.launcher();
    command.env_remove("FORTRESS_API_KEY").env("COORDINATOR_URL", "x").args(["--config", "config.toml"]);
    let told = home.fails(&mut command, 64);
    for fault in ["FORTRESS_API_KEY", "COORDINATOR_URL", "sandbox.memory_mb", "/not/there"] {
        assert!(told.contains(fault), "{fault} in {told}");
    }
    assert!(home.fails(home.launcher().args(["--parallel", "0"]), 64).contains("--parallel"));
}

#[test]
fn a_runsc_that_is_missing_or_gives_up_ends_it_with_the_reason() {
    let home = Home::new();
    let told = home.fails(home.launcher().env("CODE_WORKERS_RUNSC", "/not/there"), 1);
    assert!(told.contains("/not/there: No such file") && told.contains("apt-get install"), "{told}");
    let broken = home
        .program("runsc", "case \"$*\" in *' run '*) echo none today >&2; exit 1;; esac; exec runsc \"$@\"");
    let told = home.fails(home.launcher().env("CODE_WORKERS_RUNSC", broken), 1);
    assert!(told.contains("none today"), "{told}");
    let run = home.path(".local/share/code-workers/run");
    assert_eq!(fs::read_dir(&run).unwrap().count(), 0, "the trials are cleared away");
    assert_eq!(fs::metadata(run).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn without_a_coordinator_it_waits_and_says_so_once() {
    let home = Home::new();
    let door = home.path("owner.sock");
    let listener = UnixListener::bind(&door).unwrap();
    let mut launcher = home
        .launcher()
        .env("COORDINATOR_URL", format!("unix://{}", door.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Who is asked three times was waited for twice.
    for _ in 0..3 {
        drop(listener.accept().unwrap());
    }
    kill_process(Pid::from_child(&launcher), Signal::TERM).unwrap();
    assert_eq!(launcher.wait().unwrap().code(), Some(0));
    let told: Vec<_> = BufReader::new(launcher.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(told.len() == 1 && told[0].contains("waiting for the coordinator"), "{told:?}");
}
