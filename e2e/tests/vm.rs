//! Real vsock, in a VM by emulation: the relay between its families, host and guest; and the whole protocol through
//! it, with runsc and the worker inside the VM.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic is how a test fails")]

use std::{
    os::unix::net::UnixListener,
    path::PathBuf,
    time::{Duration, Instant},
};

use e2e::{Disk, Place, Process, Vm, kernel_folder};
use protocol::{
    Secret,
    client::{Endpoint, OwnerClient},
    inside::{SandboxLimits, WorkerConfig},
    worker::{NewWorker, WorkerEnd},
};
use rustix::process::Signal;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

/// Relays and others in the guest, each waited for until it listens.
const STARTING: &str = r#"
mkfifo /run/said
listening() { # listening PROGRAM ARGUMENTS...
    "/opt/code-workers/$@" >/run/said &
    read -r said </run/said
    echo "guest: $said"
}
relay() { listening code-workers-relay --listen "$1" --dial "$2" --mode 0666; }
"#;

/// A plain user with a cgroup of their own, as a service manager gives them one: with memory, and without the CPU.
const DELEGATING: &str = r#"
as_user() { # as_user PROGRAM ARGUMENTS...
    chown -R 1000:1000 /run/job /var/lib/sandboxes
    delegated=/sys/fs/cgroup/delegated
    echo '+memory -cpu' >/sys/fs/cgroup/cgroup.subtree_control
    mkdir -p $delegated/launcher
    chown -R 1000:1000 $delegated
    echo 'u:x:1000:1000::/tmp:/bin/sh' >/etc/passwd
    sh -c "echo \$\$ >$delegated/launcher/cgroup.procs; exec su u -c '$*'"
}
"#;

#[test]
fn the_relay_speaks_vsock_on_either_end_and_on_both() {
    let Some(kernel) = kernel_folder() else { return };
    let place = Place::new();
    let programs = ["code-workers-relay", "e2e-guest"].map(|name| place.program(name));
    let disk = Disk::make(place.home(), &programs);
    // To itself: unix to vsock, vsock to vsock, vsock to unix. To the host: unix to vsock. From the host: vsock to unix.
    let script = format!(
        "{STARTING}
        listening e2e-guest far-end /run/far.sock
        relay vsock://any:7001 unix:///run/far.sock
        relay vsock://any:7002 vsock://1:7001
        relay unix:///run/loopback.sock vsock://1:7002
        relay unix:///run/host.sock vsock://2:7222
        guest=/opt/code-workers/e2e-guest
        $guest measure loopback /run/loopback.sock 20000000 && $guest close-half /run/loopback.sock || exit
        $guest measure 'to the host' /run/host.sock 100000000
        wait"
    );
    let own = place.home().join("vm");
    e2e::far_end(UnixListener::bind(Vm::host_port(&own, 7222)).unwrap());
    let mut vm = Vm::boot(&kernel, &disk, &own, &script, &[]);
    let loopback = vm.console().wait_for("guest: loopback:");
    let host = vm.console().wait_for("guest: to the host:");
    let from = e2e::measure(&mut vm.connect(7001), 20_000_000).unwrap();
    eprintln!("{loopback}\n{host}\nfrom the host: {from:?}");
}

const KEY: &str = "the-owners-key-of-this-scenario";

/// An agent that asks the model and says each line of the stream as it comes.
const AGENT: &str = r#"#!/bin/sh
cat >prompt.txt
wget -q -O - --header "x-api-key: $ANTHROPIC_API_KEY" --header 'anthropic-version: 2023-06-01' \
    --header 'content-type: application/json' --post-data '{"model": "claude-sonnet-4-5", "max_tokens": 100,
    "stream": true, "messages": [{"role": "user", "content": "Count."}]}' "$ANTHROPIC_BASE_URL/v1/messages"
"#;
/// What the model says, in so many parts, and the time before each.
const PARTS: u32 = 8;
const BETWEEN: Duration = Duration::from_millis(1000);

/// A host with a queue, whose sandboxes are in VMs.
struct Host {
    kernel: PathBuf,
    disk: Disk,
    place: Place,
    owner: OwnerClient,
    runtime: Runtime,
    relays: Vec<Process>,
}

impl Host {
    fn open(kernel: PathBuf) -> Self {
        let mut place = Place::new();
        place.set("FORTRESS_API_KEY", KEY);
        place.model(&format!(
            "[[turn]]\ntext = 'one two three four five six seven eight'\ndelay_ms = {}",
            BETWEEN.as_millis()
        ));
        place.up();
        place.repo("sample", &[("a.txt", "a\n"), (".code-workers/agent", AGENT)]);
        let programs =
            ["code-workers-relay", "code-workers-worker", "e2e-guest"].map(|name| place.program(name));
        let disk = Disk::make(place.home(), &programs);
        let owner = Endpoint::Unix(place.run_folder().join("owner.sock"));
        let owner = OwnerClient::new(owner, Secret::new(KEY)).unwrap();
        // With a thread of its own: what the coordinator closes between two questions has to be noticed.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { kernel, disk, place, owner, runtime, relays: Vec::new() }
    }

    /// Boots a VM with so many workers of the queue in it, one after another: root's, then a plain user's.
    fn boot(&mut self, name: &str, roots: usize, users: usize) -> Vm {
        let own = self.place.home().join(name);
        for (port, door) in [(7222, "worker.sock"), (4000, "gateway.sock")] {
            let mut relay = self.place.command("code-workers-relay");
            let listen = format!("unix://{}", Vm::host_port(&own, port).display());
            relay.args(["--listen", &listen, "--dial"]);
            relay.arg(format!("unix://{}", self.place.run_folder().join(door).display()));
            let mut relay = Process::start("relay", &mut relay);
            relay.wait_for("listening on");
            self.relays.push(relay);
        }
        let workers: Vec<String> = (0..roots + users).map(|_| self.worker()).collect();
        let files: Vec<String> = (0..workers.len()).map(|number| format!("worker-{number}.json")).collect();
        let job: Vec<_> = files.iter().map(String::as_str).zip(workers).collect();
        let (roots, users) = files.split_at(roots);
        let script = format!(
            "{STARTING}
            mkdir /run/doors
            relay unix:///run/doors/coordinator.sock vsock://2:7222
            relay unix:///run/doors/gateway.sock vsock://2:4000
            {DELEGATING}
            cd /run/job
            /opt/code-workers/e2e-guest sandboxes /run/doors {}
            as_user /opt/code-workers/e2e-guest sandboxes /run/doors {}",
            roots.join(" "),
            users.join(" ")
        );
        Vm::boot(&self.kernel, &self.disk, &own, &script, &job)
    }

    /// Registers a worker; its configuration.
    fn worker(&self) -> String {
        let new = NewWorker { queue: "sample".parse().unwrap(), name: "in a VM".to_owned() };
        let registered = self.runtime.block_on(self.owner.register_worker(&new)).unwrap();
        let worker = WorkerConfig {
            worker_id: registered.worker_id,
            queue: new.queue,
            token: registered.token,
            default_agent: "command".parse().unwrap(),
            // Nothing is watched inside, so that the kernel's limit is met.
            limits: SandboxLimits::default(),
        };
        serde_json::to_string(&worker).unwrap()
    }

    /// Sends a task for a shell, and follows what is said about it.
    fn send(&self, id: &str, script: &str) -> Process {
        self.place.cli(&["send", "--id", id, "--exec", "sample", "--", "sh", "-c", script]).ok();
        self.place.start_cli(&["logs", "-f", id])
    }
}

#[test]
fn a_vm_with_runsc_and_worker_carries_the_whole_protocol() {
    let Some(kernel) = kernel_folder() else { return };
    let mut host = Host::open(kernel);
    let mut vm = host.boot("killed", 1, 0);
    let mut survivor = host.send("survivor", "echo begun; sleep 20; echo ended");
    survivor.wait_for("begun");
    vm.console().signal(Signal::KILL);
    drop(vm);
    let mut vm = host.boot("vm", 5, 1);
    an_artifact_comes_whole(&host);
    a_stream_is_seen_while_it_comes(&host);
    an_order_reaches_the_agent(&host);
    a_sandbox_without_memory_is_told(&host, &mut vm, "roots");
    survivor.wait_for("succeeded");
    let task = host.place.task("survivor");
    assert_eq!((&task["state"], &task["attempt"]), (&"succeeded".into(), &2.into()), "{task:#}");
    let found = vm.console().wait_for("rootless: true");
    assert!(found.contains("memory is limited, and CPU is not"), "{found}");
    a_sandbox_without_memory_is_told(&host, &mut vm, "users");
}

fn an_artifact_comes_whole(host: &Host) {
    // The relay is also the probe: outside of runsc it listens and dials there, as this VM's own do.
    let script = "mkdir .artifacts; seq 200000 | head -c 1048576 >.git/part
        cat $(yes .git/part | head -n 100) >.artifacts/large
        /opt/code-workers/bin/code-workers-relay --listen vsock://any:5000 --dial unix:///x || echo made";
    let mut logs = host.send("artifact", script);
    logs.wait_for("cannot listen on vsock://any:5000: Address family not supported");
    logs.wait_for("succeeded");
    let got = host.runtime.block_on(async {
        let (task, name) = ("artifact".parse().unwrap(), "large".parse().unwrap());
        host.owner.artifact(&task, &name).await.unwrap().bytes().await.unwrap()
    });
    let part: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    let wanted = part.as_bytes()[..1 << 20].repeat(100);
    assert_eq!((got.len(), Sha256::digest(got)), (wanted.len(), Sha256::digest(wanted)));
}

fn a_stream_is_seen_while_it_comes(host: &Host) {
    host.place.cli(&["send", "--id", "stream", "--agent", "command", "sample", "Count."]).ok();
    let mut logs = host.place.start_cli(&["logs", "-f", "stream"]);
    logs.wait_for("message_start");
    let began = Instant::now();
    logs.wait_for("message_stop");
    assert!(began.elapsed() > BETWEEN * PARTS / 2, "all of the stream came at once: {}", logs.told());
    logs.wait_for("succeeded");
}

fn an_order_reaches_the_agent(host: &Host) {
    let mut logs = host.send("endless", "echo begun; sleep 6000");
    logs.wait_for("begun");
    host.place.cli(&["cancel", "endless"]).ok();
    logs.wait_for("cancelled");
}

/// The kernel of the VM knows cgroup v2 alone. Its launcher is our own part in the guest, so what it saw is told to the
/// coordinator here.
fn a_sandbox_without_memory_is_told(host: &Host, vm: &mut Vm, id: &str) {
    let before = vm.console().lines();
    let mut logs = host.send(id, "echo begun; dd if=/dev/zero of=/tmp/large bs=1M count=900");
    logs.wait_for("begun");
    let ended = vm.console().wait_for_after(before, " ended: OutOfMemory");
    let worker = ended.split_whitespace().find(|word| word.starts_with("w-")).unwrap().parse().unwrap();
    let end = WorkerEnd { exit: Some(137), reason: "oom".to_owned() };
    host.runtime.block_on(host.owner.end_worker(&worker, &end)).unwrap();
    logs.wait_for("scheduled: oom");
    host.place.cli(&["cancel", id]).ok();
    logs.wait_for("cancelled");
}
