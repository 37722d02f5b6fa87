//! A folder with all that a sandbox needs, and the two users that every scenario runs as.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::inotify;
use sandbox::{
    Exit, HostPath, HostToolchain, InsidePath, Limits, Mount, Policy, Root, Runsc, Runtime, Sandbox,
    SandboxId, User, Work, destroy, start,
};

pub(crate) struct House {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) runsc: Runsc,
}

pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) console: String,
}

impl House {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in [("doors", 0o755), ("outbox", 0o700), ("store", 0o700), ("scratch", 0o700)] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::set_permissions(folder.path().join(name), Permissions::from_mode(mode)).unwrap();
        }
        let runsc = Runsc::probe(Path::new("runsc"), &folder.path().join("scratch")).await.unwrap();
        Self { folder, runsc }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn policy(&self, script: &str) -> Policy {
        let mount = |name: &str| Mount { host: self.host(name), inside: inside(&format!("/run/{name}")) };
        Policy {
            id: SandboxId::try_from(format!("test-{}", uuid())).unwrap(),
            root: Root::HostToolchain(HostToolchain::of_this_host().unwrap()),
            read_only: Vec::new(),
            shared: vec![mount("doors"), mount("outbox")],
            work: Work { inside: inside("/work"), bytes: 8 << 20, owner: 1001, store: self.host("store") },
            tmp_bytes: 4 << 20,
            limits: Limits {
                memory_bytes: 256 << 20,
                cpu_millis: 2000,
                processes: 100,
                open_files: 200,
                file_bytes: 64 << 20,
            },
            hostname: "sandbox".to_owned(),
            users: vec![User { name: "agent".to_owned(), id: 1001, home: inside("/work/home") }],
            loopback_names: vec!["skia".to_owned()],
            program: inside("/bin/bash"),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())],
        }
    }

    pub(crate) fn runtime(&self) -> Runtime {
        Runtime::Gvisor(self.runsc.clone())
    }

    pub(crate) fn host(&self, name: &str) -> HostPath {
        HostPath::try_from(self.path(name)).unwrap()
    }

    /// Ends when a file is there. Watches from now on. (gVisor closes a file on the host when it likes.)
    pub(crate) fn appears(&self, name: &str) -> impl Future<Output = ()> + use<> {
        let path = self.path(name);
        let notify = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&notify, path.parent().unwrap(), inotify::WatchFlags::CREATE).unwrap();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // A thread of its own, for which a failing test does not wait.
        std::thread::spawn(move || {
            let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
            let mut events = inotify::Reader::new(notify, &mut buffer);
            while !path.exists() {
                events.next().unwrap();
            }
            sender.send(())
        });
        async { tokio::time::timeout(Duration::from_secs(60), receiver).await.unwrap().unwrap() }
    }

    /// A program that does this first, in the sandbox's folder, and then what runsc does.
    pub(crate) fn wrapper(&self, first: &str) -> PathBuf {
        let path = self.path("wrapped-runsc");
        fs::write(&path, format!("#!/bin/bash\n{first}\nexec runsc \"$@\"\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The same runsc behind a wrapper.
    pub(crate) fn wrapped_runsc(&self, first: &str) -> Runtime {
        let mut runsc = serde_json::to_value(&self.runsc).unwrap();
        runsc["program"] = self.wrapper(first).to_str().unwrap().into();
        Runtime::Gvisor(serde_json::from_value(runsc).unwrap())
    }

    pub(crate) async fn start(&self, policy: &Policy) -> Sandbox {
        start(policy, &self.runtime(), &self.path("sandbox")).await.unwrap()
    }

    /// A whole life: start, wait, read what was printed, destroy.
    pub(crate) async fn run(&self, script: &str) -> Ran {
        self.run_policy(&self.policy(script)).await
    }

    pub(crate) async fn run_policy(&self, policy: &Policy) -> Ran {
        let mut sandbox = self.start(policy).await;
        let exit = sandbox.wait().await.unwrap();
        let console = fs::read_to_string(self.path("sandbox/console.log")).unwrap();
        destroy(&self.path("sandbox"), &policy.id, &self.runtime()).await.unwrap();
        Ran { exit, console }
    }
}

pub(crate) fn inside(path: &str) -> InsidePath {
    InsidePath::try_from(path).unwrap()
}

fn uuid() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}

/// Runs what follows as the agent's user.
pub(crate) const AS_AGENT: &str = "setpriv --reuid 1001 --regid 1001 --clear-groups";

/// Each scenario becomes two tests: as root, and as a plain user.
macro_rules! everywhere {
    ($(async fn $name:ident($house:ident: House) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn scenario($house: House) $body

            #[test]
            fn as_root() {
                $crate::house::as_root(scenario);
            }

            #[test]
            fn as_a_plain_user() {
                $crate::house::as_a_plain_user(concat!(module_path!(), "::as_a_plain_user"), scenario);
            }
        }
    )*};
}
pub(crate) use everywhere;

pub(crate) fn as_root<F: Future<Output = ()>>(scenario: impl Fn(House) -> F) {
    if rustix::process::geteuid().is_root() {
        block_on(scenario);
    } else {
        assert!(std::env::var_os("CI").is_none(), "these tests must run as root in CI");
        eprintln!("SKIPPED: needs root");
    }
}

/// Root becomes nobody by running this test program once more.
pub(crate) fn as_a_plain_user<F: Future<Output = ()>>(name: &str, scenario: impl Fn(House) -> F) {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return block_on(scenario);
    }
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::os::unix::fs::chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    // The name of the test program is no part of a test's name.
    let (_, name) = name.split_once("::").unwrap();
    let output = Command::new("setpriv")
        .args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"])
        .arg(&program)
        .args(["--exact", name, "--nocapture"])
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .output()
        .unwrap();
    let told =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success() && told.contains(" 1 passed"), "as a plain user: {told}");
}

fn block_on<F: Future<Output = ()>>(scenario: impl Fn(House) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async { scenario(House::new().await).await });
}
