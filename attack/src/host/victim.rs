//! Another task of another queue, run by another worker: what one sandbox must not reach of its neighbours.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use protocol::folders::Folders;
use serde_json::{Value, json};

use crate::{
    http::{Answers, ask_unix, request},
    target::{Backwards, Leaked, Neighbour},
};

/// A leased and started task, kept alive for as long as it is held.
pub(super) struct Victim {
    pub(super) neighbour: Neighbour,
    pub(super) token: String,
    pub(super) lease: String,
    pub(super) key: String,
    _alive: UnixStream,
}

/// Well below what a lease lives.
const BEAT: Duration = Duration::from_secs(10);

impl Victim {
    /// The queue must be there.
    pub(super) fn make(folders: &Folders, owner_key: &str, queue: &str) -> anyhow::Result<Self> {
        let (owner, door) = (folders.owner_socket(), folders.worker_socket());
        let bearer = format!("Bearer {owner_key}");
        let post = |path: &str, body: Value| {
            let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
            value(&ask_unix(&owner, request("POST", path, &headers, &body.to_string()).as_bytes())?)
        };
        let worker = post("/workers", json!({ "queue": queue, "name": "victim" }))?;
        let task = post("/tasks", json!({ "queue": queue, "prompt": "be a victim", "agent": "attack" }))?;
        let (worker_id, token) = (text(&worker, "/worker_id")?, text(&worker, "/token")?);
        let bearer = format!("Bearer {token}");
        let opens = [("Authorization", bearer.as_str()), ("Code-Workers-Protocol", "1")];
        let request_id = super::place::unique()?;
        let path = format!("/tasks/lease/{queue}?wait=7&request_id={request_id}");
        let leased = value(&ask_unix(&door, request("GET", &path, &opens, "").as_bytes())?)?;
        let (task, lease) = (text(&task, "/id")?, text(&leased, "/lease/token")?);
        let mine = [opens[0], opens[1], ("Code-Workers-Lease", &lease), ("Code-Workers-Attempt", "1")];
        let started =
            ask_unix(&door, request("POST", &format!("/tasks/{task}/start"), &mine, "").as_bytes())?;
        let key = text(&value(&started)?, "/virtual_key")?;
        let alive = keep_alive(&door, &task, &mine)?;
        let neighbour = Neighbour { task, queue: queue.to_owned(), worker: worker_id };
        Ok(Self { neighbour, token, lease, key, _alive: alive })
    }

    /// All that its worker shows at the door.
    pub(super) fn leaked(&self) -> Leaked {
        Leaked {
            task: self.neighbour.task.clone(),
            token: Backwards::new(&self.token),
            lease: Backwards::new(&self.lease),
        }
    }

    /// Ends it as its worker would; from then on its keys are dead.
    pub(super) fn end(self, folders: &Folders) -> anyhow::Result<String> {
        let bearer = format!("Bearer {}", self.token);
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Code-Workers-Protocol", "1"),
            ("Code-Workers-Lease", &self.lease),
            ("Code-Workers-Attempt", "1"),
            ("Content-Type", "application/json"),
        ];
        let path = format!("/tasks/{}/result", self.neighbour.task);
        let report = crate::inside::REPORT;
        value(&ask_unix(&folders.worker_socket(), request("POST", &path, &headers, report).as_bytes())?)?;
        Ok(self.key)
    }
}

/// Heartbeats until the other end of the answer is dropped.
fn keep_alive(door: &Path, task: &str, headers: &[(&str, &str)]) -> io::Result<UnixStream> {
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.set_read_timeout(Some(BEAT))?;
    let headers: Vec<_> = headers.iter().copied().chain([("Content-Type", "application/json")]).collect();
    let beat = request("POST", &format!("/tasks/{task}/heartbeat"), &headers, r#"{"after":0}"#);
    let door = door.to_owned();
    thread::spawn(move || {
        // A time-out is the next beat; an end is the end.
        while theirs.read(&mut [0]).is_err() {
            let _ = ask_unix(&door, beat.as_bytes());
        }
        let _ = theirs.flush();
    });
    Ok(ours)
}

fn value(answers: &Answers) -> anyhow::Result<Value> {
    anyhow::ensure!(answers.any_good(), "the victim was refused: {}", answers.0);
    serde_json::from_str(answers.body()).with_context(|| answers.0.clone())
}

fn text(value: &Value, pointer: &str) -> anyhow::Result<String> {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.map(str::to_owned).with_context(|| format!("no {pointer} in {value}"))
}
