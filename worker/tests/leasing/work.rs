//! Workers: in this process, or in one of their own that can be stopped.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use protocol::{
    Secret,
    client::Endpoint,
    inside::{SandboxLimits, WorkerConfig},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use worker::{
    exit::Exit,
    work::{self, Service},
};

use crate::place::{PATIENCE, Place, places};

/// Where a worker in a process of its own finds its folder.
const FOLDER: &str = "CODE_WORKERS_TEST_FOLDER";
/// Its agent's user.
const UID: &str = "CODE_WORKERS_TEST_UID";

fn config() -> WorkerConfig {
    WorkerConfig {
        worker_id: "worker-1".parse().unwrap(),
        queue: "sample".parse().unwrap(),
        token: Secret::new("token"),
        default_agent: "command".parse().unwrap(),
        limits: SandboxLimits::default(),
    }
}

fn service(doors: &Path) -> Service {
    Service::new(Endpoint::Unix(doors.join("coordinator.sock")), &config()).unwrap()
}

/// A worker in this process, with threads of its own.
pub(crate) struct Worker {
    pub(crate) drain: CancellationToken,
    ended: oneshot::Receiver<std::io::Result<Exit>>,
}

impl Worker {
    pub(crate) fn start(place: &Place) -> Self {
        let (places, service) = (place.places.clone(), service(&place.at("doors")));
        let drain = CancellationToken::new();
        let told = drain.clone();
        let (tell, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let _ = tell.send(runtime.unwrap().block_on(work::run(&places, &service, told)));
        });
        Self { drain, ended }
    }

    pub(crate) async fn ends(self) -> std::io::Result<Exit> {
        tokio::time::timeout(PATIENCE, self.ended).await.expect("the worker ends").unwrap()
    }
}

/// A worker in a process of its own.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(place: &Place) -> Self {
        let folder = place.places.work.parent().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "work::a_worker_of_another_test", "--ignored", "--nocapture"]);
        command.env(FOLDER, folder).env(UID, place.places.agent.uid.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        Self(command.spawn().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits for its end; all that it told.
    pub(crate) fn ends(mut self) -> String {
        let mut told = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut told).unwrap();
        assert!(self.0.wait().unwrap().success(), "{told}");
        told
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

/// The agent's processes, and what they started.
pub(crate) fn of_agent(place: &Place) -> Vec<Pid> {
    let uid = place.places.agent.uid.to_string();
    let ps = Command::new("ps").args(["-o", "pid=", "-u", &uid]).output().unwrap();
    let text = String::from_utf8(ps.stdout).unwrap();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Waits until a file is there.
pub(crate) async fn there(path: PathBuf) {
    let waiting = async {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{} is not there", path.display()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the worker that other tests start"]
async fn a_worker_of_another_test() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let uid = std::env::var(UID).unwrap().parse().unwrap();
    let places = places(Path::new(&folder), uid);
    let exit =
        work::run(&places, &service(&Path::new(&folder).join("doors")), CancellationToken::new()).await;
    println!("{exit:?}");
}
