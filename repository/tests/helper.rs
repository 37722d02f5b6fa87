//! The helper's own life: time limits, turns, what a kill leaves behind, requests that make no sense.

#![allow(clippy::unwrap_used, reason = "tests' own helpers too")]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::pin::pin;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{Place, helper};
use repository::{Answer, Code, Helper};
use rustix::fs::{FlockOperation, flock};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

/// Waits until the other side has ended the connection.
async fn ends(mut connection: TcpStream) {
    let mut heard = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(LONG, connection.read_to_end(&mut heard)).await.unwrap();
}

#[tokio::test]
async fn a_source_that_never_answers_runs_out_of_time_and_leaves_no_process() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = format!("git://{}/project", listener.local_addr().unwrap());
    // On a busy machine the first limits may end before git has even connected.
    for limit in [SHORT, 4 * SHORT, 16 * SHORT, 64 * SHORT] {
        let helper = helper().with_time_limit(limit);
        let mut refresh = pin!(helper.refresh(&place.mirror, &source));
        let refused = tokio::select! {
            refused = &mut refresh => refused,
            accepted = listener.accept() => {
                let refused = refresh.await;
                ends(accepted.unwrap().0).await;
                assert_eq!(refused.unwrap_err().code, Code::Timeout);
                // The lock went with the process.
                place.mirrored().await;
                return;
            }
        };
        assert_eq!(refused.unwrap_err().code, Code::Timeout);
    }
    panic!("git never connected");
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_its_process() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = format!("git://{}/project", listener.local_addr().unwrap());
    let helper = helper();
    let (connection, _) = tokio::select! {
        _ = helper.refresh(&place.mirror, &source) => panic!("nobody answered"),
        accepted = listener.accept() => accepted.unwrap(),
    };
    ends(connection).await;
}

#[tokio::test]
async fn a_helper_whose_asker_has_died_ends_too() {
    use std::os::unix::process::CommandExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = Place::new();
    let source = format!("git://{}/project", listener.local_addr().unwrap());
    let mut child = Command::new(env!("CARGO_BIN_EXE_code-workers-repository"))
        .env("TMPDIR", place.folder.path())
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let question =
        format!(r#"{{"operation":"refresh","mirror":"{}","source":"{source}"}}"#, place.mirror.display());
    child.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
    let (connection, _) = listener.accept().await.unwrap();
    drop(child.stdout.take());
    ends(connection).await;
    child.wait().unwrap();
}

#[tokio::test]
async fn refreshes_of_one_mirror_take_turns() {
    let place = Place::new();
    place.mirrored().await;
    let lock = File::open(place.mirror.with_extension("git.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let waited = helper().with_time_limit(SHORT).refresh(&place.mirror, place.source()).await;
    assert_eq!(waited.unwrap_err().code, Code::Timeout);
    drop(lock);

    place.commit(&place.source, "a", "later\n");
    let mirror = place.path("another.git");
    let helper = helper();
    let refresh = || helper.refresh(&mirror, place.source());
    let (a, b, c) = tokio::join!(refresh(), refresh(), refresh());
    let created = [a, b, c].map(|refreshed| refreshed.unwrap().created);
    assert_eq!(created.into_iter().filter(|created| *created).count(), 1);
}

#[tokio::test]
async fn what_a_killed_git_left_keeps_nobody_out() {
    let place = Place::new();
    place.mirrored().await;
    place.commit(&place.source, "a", "later\n");
    for leftover in ["refs/heads/main.lock", "HEAD.lock", "packed-refs.lock", "objects/pack/tmp_pack_x"] {
        fs::write(place.mirror.join(leftover), "").unwrap();
    }
    fs::create_dir_all(place.mirror.with_extension("unfinished")).unwrap();
    let base = place.mirrored().await;
    assert_eq!(base, common::head(&place.source));
    assert!(!place.mirror.join("objects/pack/tmp_pack_x").exists());
    fs::remove_dir_all(&place.mirror).unwrap();
    place.mirrored().await;
}

#[tokio::test]
async fn a_program_that_is_missing_or_silent_is_told_apart() {
    let place = Place::new();
    for program in ["/nonexistent/code-workers-repository", "/bin/true", "/bin/false"] {
        let refused = Helper::new(program).describe(place.source()).await.unwrap_err();
        assert_eq!(refused.code, Code::HelperFailed, "{program}");
    }
}

/// Runs the program by hand.
fn asked(question: &str, path: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_code-workers-repository"))
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_failure_is_an_answer() {
    let place = Place::new();
    let describe = format!(r#"{{"operation":"describe","source":"{}"}}"#, place.source());
    let bad_id = r#"{"operation":"check","bundle":"/b","task":"../x","base":"00","mirror":"/m"}"#;
    for (question, path, code) in [
        (describe.as_str(), "/nonexistent", Code::GitMissing),
        ("", "/usr/bin", Code::BadRequest),
        (r#"{"operation":"remove"}"#, "/usr/bin", Code::BadRequest),
        (bad_id, "/usr/bin", Code::BadRequest),
    ] {
        let output = asked(question, path);
        assert!(output.status.success());
        match serde_json::from_slice(&output.stdout).unwrap() {
            Answer::Failed(error) => assert_eq!(error.code, code, "{error}"),
            other => panic!("{question}: {other:?}"),
        }
    }
    // Every git that is installed here.
    for path in ["/usr/local/bin:/usr/bin:/bin", "/usr/bin:/bin"] {
        let answer = serde_json::from_slice(&asked(&describe, path).stdout).unwrap();
        assert!(matches!(answer, Answer::Described(_)), "{answer:?}");
    }
}
