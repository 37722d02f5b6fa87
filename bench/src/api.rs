//! The calls that are measured, as a sender and a worker make them.

use std::{net::SocketAddr, path::PathBuf};

use bytes::Bytes;
use hyper::{
    Method, StatusCode,
    header::{HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::Connection;

const PROTOCOL: HeaderName = HeaderName::from_static("code-workers-protocol");
const LEASE: HeaderName = HeaderName::from_static("code-workers-lease");
const ATTEMPT: HeaderName = HeaderName::from_static("code-workers-attempt");

/// Where a coordinator is reached, or what stands for one.
#[derive(Debug, Clone)]
pub(crate) struct Doors {
    /// The owner's TCP door.
    pub(crate) owner: SocketAddr,
    /// The workers' socket.
    pub(crate) worker: PathBuf,
    /// The owner's key.
    pub(crate) key: String,
}

/// A connection of the owner's.
pub(crate) struct Owner(Connection);

/// A worker of one queue, on a connection of its own.
pub(crate) struct Worker {
    connection: Connection,
    queue: String,
}

/// A lease that a worker holds.
pub(crate) struct Lease {
    /// The task's id.
    pub(crate) task: String,
    headers: [(HeaderName, HeaderValue); 3],
}

/// What a lease's answer must hold; the rest is not looked at.
#[derive(Deserialize)]
struct Leased<'a> {
    #[serde(borrow)]
    task: LeasedTask<'a>,
    #[serde(borrow)]
    lease: Token<'a>,
}

#[derive(Deserialize)]
struct LeasedTask<'a> {
    id: &'a str,
}

#[derive(Deserialize)]
struct Token<'a> {
    token: &'a str,
    attempt: u32,
}

impl Doors {
    /// A new connection of the owner's.
    pub(crate) async fn owner(&self) -> Owner {
        Owner(Connection::tcp(self.owner, &self.key).await)
    }

    /// A new worker.
    pub(crate) async fn worker(&self, queue: &str) -> Worker {
        self.workers(queue, 1).await.remove(0)
    }

    /// New workers, one after the other.
    pub(crate) async fn workers(&self, queue: &str, count: usize) -> Vec<Worker> {
        let body = Bytes::from(json!({ "queue": queue, "name": "bench" }).to_string());
        let mut owner = self.owner().await;
        let mut workers = Vec::with_capacity(count);
        for _ in 0..count {
            let answer = owner.post("/workers", body.clone()).await;
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            let token = answer["token"].as_str().expect("a token");
            let connection = Connection::unix(&self.worker, token).await;
            workers.push(Worker { connection, queue: queue.to_owned() });
        }
        workers
    }
}

impl Owner {
    /// A POST that must succeed.
    pub(crate) async fn post(&mut self, path: &str, body: Bytes) -> Bytes {
        let (status, answer) = self.0.call(Method::POST, path, &[], body).await;
        require(status.is_success(), path, status, answer)
    }

    /// A GET, whatever comes of it.
    pub(crate) async fn get(&mut self, path: &str) -> (StatusCode, Bytes) {
        self.0.call(Method::GET, path, &[], Bytes::new()).await
    }
}

impl Worker {
    /// A task within `wait` seconds, with the answer as it came.
    pub(crate) async fn lease(&mut self, wait: u64) -> Option<(Lease, Bytes)> {
        let path = format!("/tasks/lease/{}?request_id={}&wait={wait}", self.queue, Uuid::new_v4());
        let protocol = [(PROTOCOL, HeaderValue::from_static("1"))];
        let (status, answer) = self.connection.call(Method::GET, &path, &protocol, Bytes::new()).await;
        if status == StatusCode::NO_CONTENT {
            return None;
        }
        let answer = require(status == StatusCode::OK, &path, status, answer);
        let leased: Leased<'_> = serde_json::from_slice(&answer).expect("a lease");
        let [protocol] = protocol;
        let token = HeaderValue::from_str(leased.lease.token).expect("visible letters");
        let headers = [protocol, (LEASE, token), (ATTEMPT, leased.lease.attempt.into())];
        let lease = Lease { task: leased.task.id.to_owned(), headers };
        Some((lease, answer))
    }

    /// A call about a lease; it must succeed.
    pub(crate) async fn of_lease(&mut self, lease: &Lease, verb: &str, body: Bytes) -> Bytes {
        let path = format!("/tasks/{}/{verb}", lease.task);
        let (status, answer) = self.connection.call(Method::POST, &path, &lease.headers, body).await;
        require(status == StatusCode::OK, &path, status, answer)
    }

    /// Starts a lease, and ends it well.
    pub(crate) async fn finish(&mut self, lease: &Lease) {
        self.of_lease(lease, "start", Bytes::from_static(b"{}")).await;
        self.of_lease(lease, "result", Bytes::from_static(REPORT)).await;
    }
}

/// What a worker says at the end.
pub(crate) const REPORT: &[u8] = br#"{"outcome":"succeeded","exit_code":0,"message":"done"}"#;

/// The body of a task that is ready at once: `size` bytes of JSON.
pub(crate) fn exec_task(queue: &str, commit: &str, size: usize) -> Value {
    let task =
        |filling: &str| json!({ "queue": queue, "kind": "exec", "argv": ["true", filling], "base": commit });
    let bare = task("").to_string().len();
    task(&"x".repeat(size.saturating_sub(bare)))
}

/// The id in an answer that shows a task.
pub(crate) fn id_of(answer: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(answer).expect("JSON");
    answer["id"].as_str().expect("an id").to_owned()
}

fn require(good: bool, path: &str, status: StatusCode, answer: Bytes) -> Bytes {
    assert!(good, "{path} was answered {status}: {}", String::from_utf8_lossy(&answer));
    answer
}
