//! The launcher's part in a VM that has no owner's key: a sandbox for each worker that the host has registered.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use protocol::inside::{AGENT_UID, BIN, DOORS, HOME, OUTBOX, RELAY_UID, WORK, WORKER_CONFIG, WorkerConfig};
use sandbox::{
    HostPath, HostToolchain, InsidePath, Limits, Mount, Policy, Root, Runsc, Runtime, SandboxId, User, Work,
};

/// Where our programs are in the VM.
const OURS: &str = "/opt/code-workers";
/// Small enough to be met by a task in no time, and enough for git.
const MEMORY: u64 = 320 << 20;
const WORK_BYTES: u64 = 512 << 20;
const TMP_BYTES: u64 = 1 << 30;

/// Starts one sandbox after another, for `workers` (each a worker's configuration as JSON), whose doors are in
/// `doors`, and tells how each ended.
pub(crate) async fn run(doors: &str, workers: &[&str]) {
    let top = Path::new("/var/lib/sandboxes");
    let (probe, stores) = (top.join("probe"), top.join("stores"));
    for folder in [&probe, &stores] {
        fs::create_dir_all(folder).unwrap();
    }
    let runsc = Runsc::probe(Path::new("runsc"), &probe).await.unwrap();
    let warnings = runsc.warnings();
    println!("guest: runsc {}, rootless: {}, warnings: {warnings:?}", runsc.version(), runsc.rootless());
    let runtime = Runtime::Gvisor(runsc);
    for file in workers {
        let worker: WorkerConfig = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let folder = top.join(worker.worker_id.as_str());
        let (config, outbox) = (folder.join("config"), folder.join("outbox"));
        for part in [&config, &outbox] {
            fs::create_dir_all(part).unwrap();
        }
        fs::copy(file, config.join("worker.json")).unwrap();
        fs::set_permissions(config.join("worker.json"), Permissions::from_mode(0o600)).unwrap();
        let policy = policy(&worker, doors, &config, &outbox, &stores);
        let sandbox_folder = folder.join("sandbox");
        let mut sandbox = sandbox::start(&policy, &runtime, &sandbox_folder).await.unwrap();
        println!("guest: {} waits", worker.worker_id);
        let exit = sandbox.wait().await.unwrap();
        println!("guest: {} ended: {exit:?}, {:?}", worker.worker_id, sandbox.last_line());
        sandbox::destroy(&sandbox_folder, &policy.id, &runtime).await.unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}

fn policy(worker: &WorkerConfig, doors: &str, config: &Path, outbox: &Path, stores: &Path) -> Policy {
    let program = |name: &str| mount(&Path::new(OURS).join(name), &format!("{BIN}/{name}"));
    let config_inside = Path::new(WORKER_CONFIG).parent().unwrap().to_str().unwrap();
    Policy {
        id: SandboxId::try_from(worker.worker_id.to_string()).unwrap(),
        root: Root::HostToolchain(HostToolchain::of_this_host().unwrap()),
        read_only: vec![
            mount(config, config_inside),
            program("code-workers-worker"),
            program("code-workers-relay"),
        ],
        shared: vec![mount(Path::new(doors), DOORS), mount(outbox, OUTBOX)],
        work: Work { inside: inside(WORK), bytes: WORK_BYTES, owner: AGENT_UID, store: host(stores) },
        tmp_bytes: TMP_BYTES,
        limits: Limits {
            memory_bytes: MEMORY,
            cpu_millis: 2000,
            processes: 256,
            open_files: 4096,
            file_bytes: TMP_BYTES,
        },
        hostname: "sandbox".to_owned(),
        users: [("agent", AGENT_UID), ("relay", RELAY_UID)]
            .map(|(name, id)| User { name: name.to_owned(), id, home: inside(HOME) })
            .into(),
        loopback_names: ["skia", "authproxy"].map(str::to_owned).into(),
        program: inside(&format!("{BIN}/code-workers-worker")),
        arguments: vec!["init".to_owned()],
        environment: vec![("PATH".to_owned(), "/usr/bin".to_owned())],
    }
}

fn mount(from: &Path, to: &str) -> Mount {
    Mount { host: host(from), inside: inside(to) }
}

fn host(path: &Path) -> HostPath {
    HostPath::try_from(path.to_owned()).unwrap()
}

fn inside(path: &str) -> InsidePath {
    InsidePath::try_from(path).unwrap()
}
