use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use protocol::inside::{HeldLease, HeldReport, Outbox};
use protocol::problem::{Code, Problem};
use protocol::report::{Accepted, Outcome, Report};
use protocol::task::Artifact;
use protocol::{Secret, TaskState};

use super::deliver;

/// A workers' door on a real socket that answers every result in one way, and writes down what it was asked.
struct Door {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

type Asked = (Arc<Mutex<Vec<String>>>, Option<Code>);

async fn answer(State((asked, refusal)): State<Asked>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let is_result = path.ends_with("/result");
    let text = if is_result {
        let report: Report = serde_json::from_slice(&body).unwrap();
        report.artifacts.into_iter().map(|artifact| artifact.name).collect::<Vec<_>>().join(",")
    } else {
        String::from_utf8_lossy(&body).into_owned()
    };
    asked.lock().unwrap().push(format!("{path} {text}"));
    match refusal {
        Some(code) if is_result => {
            let status = StatusCode::from_u16(code.status()).unwrap();
            (status, axum::Json(Problem::new(code, "no"))).into_response()
        }
        _ => axum::Json(Accepted { state: TaskState::Succeeded }).into_response(),
    }
}

impl Door {
    fn open(refusal: Option<Code>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let asked = Arc::default();
        let listener = tokio::net::UnixListener::bind(folder.path().join("worker.sock")).unwrap();
        let router = Router::new().fallback(answer).with_state((Arc::clone(&asked), refusal));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { folder, asked }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("worker.sock")
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// An outbox with a report that names these artifacts, of which it holds `log`.
    fn outbox(&self, artifacts: &[&str]) -> Outbox {
        let outbox = Outbox::at(self.folder.path().join("outbox"));
        fs::create_dir_all(outbox.artifacts()).unwrap();
        fs::write(outbox.artifacts().join("log"), "logged").unwrap();
        let artifact = |name: &&str| Artifact { name: (*name).to_owned(), size: 6, sha256: "0".repeat(64) };
        let report = Report {
            outcome: Outcome::Failed,
            reason: None,
            exit_code: Some(1),
            message: None,
            head: None,
            diff: Default::default(),
            tokens: Default::default(),
            stages: Vec::new(),
            log_tail: String::new(),
            artifacts: artifacts.iter().map(artifact).collect(),
        };
        let lease = HeldLease { task: "t1".parse().unwrap(), token: Secret::new("lease"), attempt: 1 };
        fs::write(outbox.report(), serde_json::to_vec(&HeldReport { lease, report }).unwrap()).unwrap();
        outbox
    }
}

#[tokio::test]
async fn artifacts_go_first_and_nothing_goes_twice() {
    let door = Door::open(None);
    let outbox = door.outbox(&["log"]);
    for _ in 0..2 {
        deliver(&outbox, &door.socket(), &Secret::new("token")).await.unwrap();
    }
    assert_eq!(door.asked(), ["/tasks/t1/artifacts/log logged", "/tasks/t1/result log"]);
}

#[tokio::test]
async fn an_artifact_that_is_not_there_or_leads_out_is_left_out() {
    let door = Door::open(None);
    let outbox = door.outbox(&["patch", "../report.json", "link", "log"]);
    fs::write(door.folder.path().join("secret"), "secret").unwrap();
    symlink(door.folder.path().join("secret"), outbox.artifacts().join("link")).unwrap();
    deliver(&outbox, &door.socket(), &Secret::new("token")).await.unwrap();
    assert_eq!(door.asked(), ["/tasks/t1/artifacts/log logged", "/tasks/t1/result log"]);
}

#[tokio::test]
async fn a_refused_report_is_not_sent_again_and_a_passing_fault_is() {
    for (code, times) in [(Code::LeaseLost, 1), (Code::Internal, 2)] {
        let door = Door::open(Some(code));
        let outbox = door.outbox(&[]);
        let first = deliver(&outbox, &door.socket(), &Secret::new("token")).await;
        assert_eq!(first.is_ok(), code == Code::LeaseLost, "{first:?}");
        let _ = deliver(&outbox, &door.socket(), &Secret::new("token")).await;
        assert_eq!(door.asked().len(), times, "{code:?}");
    }
}

#[tokio::test]
async fn an_outbox_without_a_report_needs_no_door() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::at(folder.path());
    deliver(&outbox, &folder.path().join("no.sock"), &Secret::new("token")).await.unwrap();
    fs::write(outbox.report(), "not a report").unwrap();
    deliver(&outbox, &folder.path().join("no.sock"), &Secret::new("token")).await.unwrap();
}
