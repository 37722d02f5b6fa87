//! The program: its exit codes, its sockets, its end.

use std::{os::unix::fs::PermissionsExt as _, process::Output, sync::Arc};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::house::{House, Piece, RawModel, soon};

async fn ended(house: &House, variables: &[(&str, &str)]) -> (i32, String) {
    let Output { status, stderr, .. } =
        soon(house.command().envs(variables.iter().copied()).output()).await.unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn a_port_that_is_taken_is_one_line_and_exit_1() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let house = House::before("http://127.0.0.1:1");
    let (code, told) = ended(&house, &[("GATEWAY_BIND", &address)]).await;
    assert_eq!((code, told.lines().count()), (1, 1), "{told}");
    assert!(told.contains(&address) && told.contains("GATEWAY_BIND"), "{told}");
}

#[tokio::test]
async fn a_second_gateway_for_the_same_folders_is_refused() {
    let house = House::before("http://127.0.0.1:1");
    let _first = house.open().await;
    let (code, told) = ended(&house, &[]).await;
    assert_eq!((code, told.lines().count()), (1, 1), "{told}");
    assert!(told.contains("another gateway"), "{told}");
}

#[tokio::test]
async fn a_bad_configuration_is_exit_64_with_every_fault() {
    let mut house = House::before("nonsense");
    house.config = "[price.'m']\ninput_usd = 1".to_owned();
    let (code, told) = ended(&house, &[("GATEWAY_BIND", "0.0.0.0:0")]).await;
    assert_eq!(code, 64);
    for fault in ["GATEWAY_BIND", "ANTHROPIC_UPSTREAM_URL", "OPENAI_UPSTREAM_URL", "output_usd"] {
        assert!(told.contains(fault), "{fault} in {told}");
    }
}

#[tokio::test]
async fn sockets_are_this_users_alone() {
    let house = House::before("http://127.0.0.1:1");
    let _gateway = house.open().await;
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(house.socket("gateway-admin.sock")), 0o600);
    assert_eq!(mode(house.socket("")), 0o700);
}

#[tokio::test]
async fn streams_may_end_after_sigterm() {
    let permit = Arc::new(Semaphore::new(0));
    let pieces = vec![
        Piece::stream(),
        Piece::say("data: 1\n\n"),
        Piece::Wait(permit.clone()),
        Piece::say("data: 2\n\n"),
    ];
    let model = RawModel::start(pieces).await;
    let house = House::before(&model.url);
    let mut gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    let mut answer = gateway.ask(&key, 500, true).await;
    assert_eq!(soon(answer.chunk()).await.unwrap().unwrap(), "data: 1\n\n");
    let pid = gateway.process.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    // It takes no more connections: that is the event which says that it has heard.
    soon(async { while tokio::net::UnixStream::connect(house.socket("gateway.sock")).await.is_ok() {} })
        .await;
    permit.add_permits(1);
    assert_eq!(soon(answer.chunk()).await.unwrap().unwrap(), "data: 2\n\n");
    assert_eq!(soon(answer.chunk()).await.unwrap(), None);
    assert_eq!(soon(gateway.process.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn as_many_files_may_be_open_as_the_system_lets_it() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum: hard }).unwrap();
    let house = House::before("http://127.0.0.1:1");
    let gateway = house.open().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.process.id().unwrap())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = [3, 4].map(|n| line.split_whitespace().nth(n).unwrap());
    assert_eq!(soft, hard);
}

/// The one living child of a process, which is none once it was killed.
fn child_of(parent: u32) -> Option<Pid> {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).find_map(|pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let living = fields.next()? != "Z";
        let child = living && fields.next()?.parse() == Ok(parent);
        Pid::from_raw(pid).filter(|_| child)
    })
}

#[tokio::test]
async fn a_killed_clerk_costs_no_request() {
    let model = RawModel::start(vec![Piece::answer("200 OK", "", "{}")]).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let (key, process) = (gateway.mint("t", "5.00").await, gateway.process.id().unwrap());
    let ask = async |model: &str| {
        let body = json!({"model": model, "max_tokens": 9, "messages": []});
        soon(gateway.post("/v1/messages", &key, &body).send()).await.unwrap().status().as_u16()
    };
    assert_eq!(ask("claude-haiku-4-5").await, 200);
    let clerk = child_of(process).unwrap();
    kill_process(clerk, Signal::KILL).unwrap();
    soon(async { while child_of(process).is_some() {} }).await;
    assert_eq!(ask("claude-sonnet-4-5").await, 200);
    assert_ne!(child_of(process), Some(clerk));
    assert_eq!(ask("unheard-of").await, 400, "and what it does not know stays so");
}
