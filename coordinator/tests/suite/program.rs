//! The program: how it starts, how it refuses to, and how it ends.

use std::{
    net::TcpListener,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use protocol::{
    Secret,
    client::{Endpoint, OwnerClient, WorkerClient},
    lease::LeaseQuery,
    report::Outcome,
    worker::NewWorker,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::house::{KEY, folders, held, named, open_queue, queue, report, seed, soon};

fn program(base: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_code-workers-coordinator"));
    command
        .env_clear()
        .current_dir(base)
        .env("XDG_CONFIG_HOME", base.join("c"))
        .env("XDG_DATA_HOME", base.join("d"))
        .env("XDG_RUNTIME_DIR", base.join("r"))
        .env("COORDINATOR_BIND", "127.0.0.1:0")
        .env("FORTRESS_API_KEY", KEY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn fails(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = soon(command.output()).await.unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

/// Starts it, and reads its log up to the line that says that it listens.
async fn started(command: &mut Command) -> (Child, String) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let listening = soon(async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it ended");
            if line.contains("listening") {
                return line;
            }
        }
    })
    .await;
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, listening)
}

#[tokio::test]
async fn a_bad_configuration_names_every_fault_and_ends_with_64() {
    let base = tempfile::tempdir().unwrap();
    let mut command = program(base.path());
    command.env_remove("FORTRESS_API_KEY").env("COORDINATOR_BIND", "0.0.0.0:7222");
    std::fs::create_dir_all(base.path().join("c/code-workers")).unwrap();
    std::fs::write(base.path().join("c/code-workers/config.toml"), "colour = 1").unwrap();
    let (code, said) = fails(&mut command).await;
    assert_eq!(code, 64, "{said}");
    for part in ["FORTRESS_API_KEY", "0.0.0.0:7222", "colour"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!base.path().join("d").exists(), "nothing was made");
    assert_eq!(fails(program(base.path()).arg("--nonsense")).await.0, 2);
    assert_eq!(fails(program(base.path()).arg("--config")).await.0, 2);
}

#[tokio::test]
async fn a_taken_port_and_a_folder_that_cannot_be_written_are_one_clear_line() {
    let base = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = fails(program(base.path()).env("COORDINATOR_BIND", &address)).await;
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert!(said.contains(&address) && said.contains("COORDINATOR_BIND"), "{said}");

    let file = base.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, said) = fails(program(base.path()).env("XDG_DATA_HOME", &file)).await;
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert!(said.contains("file/code-workers"), "{said}");
}

#[tokio::test]
async fn it_ends_well_on_a_signal_and_replaces_its_old_sockets() {
    let base = tempfile::tempdir().unwrap();
    let folders = folders(base.path());
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let (mut child, _) = started(&mut program(base.path())).await;
        let second = fails(&mut program(base.path())).await;
        assert_eq!(second.0, 1, "{}", second.1);
        assert!(second.1.contains("another coordinator runs"), "{}", second.1);
        let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        assert_eq!(soon(child.wait()).await.unwrap().code(), Some(0));
    }
    // One that is killed leaves its sockets.
    let (mut child, _) = started(&mut program(base.path())).await;
    child.kill().await.unwrap();
    assert!(folders.owner_socket().exists() && folders.worker_socket().exists());
    let (_child, line) = started(program(base.path()).env("LOG_FORMAT", "json")).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["fields"]["message"], "listening");
    let mode = |path: &Path| {
        std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777
    };
    assert_eq!(
        (mode(&folders.run), mode(&folders.owner_socket()), mode(&folders.worker_socket())),
        (0o700, 0o600, 0o600)
    );
}

#[tokio::test]
async fn every_line_of_a_request_bears_its_id_and_no_key() {
    let base = tempfile::tempdir().unwrap();
    let folders = folders(base.path());
    let queues = open_queue(&folders);
    seed(&queues).await;
    drop(queues);
    let mut command = program(base.path());
    let mut child = command.env("LOG_FORMAT", "json").env("RUST_LOG", "debug").spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut logs = Vec::new();
    soon(async {
        while !logs.last().is_some_and(|line: &String| line.contains("listening")) {
            logs.push(lines.next_line().await.unwrap().expect("it ended"));
        }
    })
    .await;
    let owner = OwnerClient::new(Endpoint::Unix(folders.owner_socket()), Secret::new(KEY)).unwrap();
    owner.submit(&named("t"), Duration::ZERO).await.unwrap();
    let new = NewWorker { queue: queue("q"), name: "test".to_owned() };
    let registered = owner.register_worker(&new).await.unwrap();
    let token = registered.token.clone();
    let worker = WorkerClient::new(Endpoint::Unix(folders.worker_socket()), token.clone()).unwrap();
    let query = LeaseQuery { request_id: uuid::Uuid::new_v4(), wait: 0 };
    let leased = worker.lease(&queue("q"), &query).await.unwrap().unwrap();
    let lease = worker.with_lease(held(&leased));
    lease.start().await.unwrap();
    lease.result(&report(Outcome::Succeeded)).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().unix_socket(folders.owner_socket()).build().unwrap();
    let wrong = http.get("http://o/tasks").header("x-request-id", "mine-1").bearer_auth("guessed-key");
    assert_eq!(wrong.send().await.unwrap().status(), 403);
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    while let Some(line) = soon(lines.next_line()).await.unwrap() {
        logs.push(line);
    }
    let parsed: Vec<serde_json::Value> =
        logs.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let of_requests: Vec<_> = parsed
        .iter()
        .filter(|line| ["answered", "result"].iter().any(|said| line["fields"]["message"] == **said))
        .collect();
    assert_eq!(of_requests.len(), 7, "six requests were answered, and one brought a result: {logs:#?}");
    assert!(of_requests.iter().all(|line| line["span"]["id"].is_string()), "{of_requests:#?}");
    assert!(of_requests.iter().any(|line| line["span"]["id"] == "mine-1"));
    let logs = logs.concat();
    for key in [KEY, "guessed-key", token.expose(), leased.lease.token.expose()] {
        assert!(!logs.contains(key), "a key in {logs}");
    }
}
