//! The real key is nowhere but in what goes to the upstream.

use std::process::Stdio;

use rustix::process::geteuid;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use crate::house::{House, Piece, REAL_KEY, RawModel, question, soon};

#[tokio::test]
async fn an_upstream_that_says_the_key_is_not_repeated() {
    let echo = format!(r#"{{"error":{{"message":"bad key {REAL_KEY}"}}}}"#);
    let header = format!("x-request-id: {REAL_KEY}\r\nlocation: http://x/{REAL_KEY}\r\n");
    let (left, right) = REAL_KEY.split_at(9);
    let stream = vec![
        Piece::stream(),
        Piece::say(format!("data: {{\"x\":\"{left}")),
        Piece::say(format!("{right}\"}}\n\ndata: {REAL_KEY}\n\n")),
    ];
    let answers = [
        vec![Piece::answer("401 Unauthorized", &header, &echo)],
        vec![Piece::answer("400 Bad Request", &header, &echo)],
        vec![Piece::answer("500 Oh", &header, &echo)],
        vec![Piece::answer("302 Found", &header, &echo)],
        vec![Piece::answer("200 OK", &header, &echo)],
        stream,
    ];
    for answer in answers {
        let model = RawModel::start(answer).await;
        let mut house = House::before(&model.url);
        house.config = String::new();
        let gateway = house.open().await;
        let key = gateway.mint("t", "5.00").await;
        for (path, body) in [
            ("/v1/messages", question(500, true)),
            ("/v1/responses", json!({"model": "gpt-5.1", "stream": true})),
        ] {
            let answer = soon(gateway.post(path, &key, &body).send()).await.unwrap();
            let (status, headers) = (answer.status(), format!("{:?}", answer.headers()));
            let text = soon(answer.text()).await.unwrap();
            assert!(!headers.contains(REAL_KEY), "{status} {headers}");
            assert!(!text.contains(REAL_KEY), "{status} {text}");
            assert_ne!(status, 401);
        }
    }
}

#[tokio::test]
async fn a_refused_real_key_stops_the_agent_and_names_the_variable() {
    let model = RawModel::start(vec![Piece::answer("401 Unauthorized", "", "{}")]).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    let answer = gateway.ask(&key, 500, true).await;
    assert_eq!(answer.status(), 403);
    let text = answer.text().await.unwrap();
    assert!(text.contains("upstream_key_refused") && text.contains("ANTHROPIC_API_KEY"), "{text}");
}

#[tokio::test]
async fn no_file_of_the_gateway_holds_a_key() {
    let model = RawModel::start(vec![Piece::answer("200 OK", "", "{}")]).await;
    let house = House::before(&model.url);
    let gateway = house.open().await;
    let key = gateway.mint("t", "1.00").await;
    gateway.ask(&key, 500, false).await;
    let data = house.folder.path().join(".local/share/code-workers");
    let mut files = 0;
    for file in std::fs::read_dir(data).unwrap() {
        let file = file.unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        // Not even a part that would shorten the search for it.
        for secret in [REAL_KEY, &key[6..22]] {
            assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{:?}", file.path());
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{:?}", file.path());
        files += 1;
    }
    assert!(files > 0);
}

#[tokio::test]
async fn no_core_file_holds_a_key() {
    let house = House::before("http://127.0.0.1:9");
    let gateway = house.open().await;
    let process = gateway.process.id().unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}

#[tokio::test]
async fn nobody_of_its_user_reads_its_memory() {
    // Root reads everybody's: here it is a user like others.
    let user: &[&str] =
        if geteuid().is_root() { &["setpriv", "--bounding-set=-all", "--inh-caps=-all"] } else { &["env"] };
    let reads = async |process: u32| {
        let file = format!("/proc/{process}/environ");
        let output = Command::new(user[0]).args(&user[1..]).args(["cat", &file]).output().await.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).contains(REAL_KEY))
    };
    let house = House::before("http://127.0.0.1:9");
    let gateway = house.open_by(user).await;
    assert_eq!(reads(gateway.process.id().unwrap()).await, (false, false));
    // What everybody else's program gives away.
    let mut other = Command::new(user[0]);
    other.args(&user[1..]).arg("cat").env("KEY", REAL_KEY).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut other = other.kill_on_drop(true).spawn().unwrap();
    // It has become that program when it repeats what it is told.
    let mut told = [0];
    other.stdin.as_mut().unwrap().write_all(b"x").await.unwrap();
    other.stdout.as_mut().unwrap().read_exact(&mut told).await.unwrap();
    assert_eq!(reads(other.id().unwrap()).await, (true, true));
}
