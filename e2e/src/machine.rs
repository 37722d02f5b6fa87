//! A machine that is run by systemd, and can be booted again.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    place::{Ran, programs, run},
    process::Process,
};

/// What the machine needs of the host.
const NEEDED: [&str; 3] = ["/usr/lib/systemd/systemd", "/usr/bin/sudo", "/usr/bin/dbus-daemon"];

/// A container in which the host's systemd is the first process; gone when it is dropped.
pub struct Machine {
    name: String,
}

impl Machine {
    /// A new one that has booted.
    ///
    /// `None` where there is no Docker or no systemd, which is said; on CI that is an error.
    #[must_use]
    pub fn boot() -> Option<Self> {
        let docker = Command::new("docker").arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let there =
            docker.is_ok_and(|status| status.success()) && NEEDED.iter().all(|path| Path::new(path).exists());
        if !there {
            assert!(std::env::var_os("CI").is_none(), "wanted: a running Docker, and {NEEDED:?}");
            eprintln!("skipped: no running Docker, or not all of {NEEDED:?}; ./test.sh installs them");
            return None;
        }
        let machine = Self { name: format!("code-workers-machine-{}", std::process::id()) };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = folder.join("src/machine/boot.sh");
        run(Command::new(script).arg(&machine.name).arg(folder.parent().unwrap()).arg(programs()), "").ok();
        machine.has_booted();
        Some(machine)
    }

    /// Shuts it down in order, and boots it again.
    pub fn reboot(&self) {
        self.root("systemctl --no-block reboot").ok();
        self.docker(&["wait", &self.name]).ok();
        self.docker(&["start", &self.name]).ok();
        self.has_booted();
    }

    fn has_booted(&self) {
        // Until the first process answers at all, and then until it is done.
        self.docker(&["exec", &self.name, "sh", "-c", BOOTED]).ok();
    }

    /// Runs a script of bash as root.
    #[must_use]
    pub fn root(&self, script: &str) -> Ran {
        run(Command::new("docker").args(["exec", "-i", &self.name, "bash", "-s"]), script)
    }

    /// Runs a script of bash as the user, as a shell that has no login of its own.
    #[must_use]
    pub fn user(&self, script: &str) -> Ran {
        run(&mut self.of_user(&["bash", "-s"]), script)
    }

    /// Starts a command as the user.
    #[must_use]
    pub fn start(&self, command: &[&str]) -> Process {
        Process::start(command[0], &mut self.of_user(command))
    }

    /// All that was and will be said since it has booted.
    #[must_use]
    pub fn journal(&self) -> Process {
        let command = ["exec", &self.name, "journalctl", "--boot", "--no-pager", "--lines=all", "--follow"];
        Process::start("journalctl", Command::new("docker").args(command))
    }

    fn of_user(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["exec", "-i", "-u", "u", "-w", "/home/u", "-e", "HOME=/home/u", "-e", "USER=u"]);
        command.args(["-e", "XDG_RUNTIME_DIR=/run/user/1000", "-e", PATH, &self.name]).args(arguments);
        command
    }

    fn docker(&self, arguments: &[&str]) -> Ran {
        run(Command::new("docker").args(arguments), "")
    }
}

const PATH: &str = "PATH=/home/u/.local/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

const BOOTED: &str = "timeout 60 sh -c \"until systemctl is-system-running --wait 2>&1 | grep -qxE 'running|degraded'; do :; done\"";

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the machine's journal:\n{}", self.root("journalctl --no-pager -n 150").out);
        }
        for arguments in [["rm", "-fv", &self.name], ["rmi", "-f", &self.name]] {
            let _ =
                Command::new("docker").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}
