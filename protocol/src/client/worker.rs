//! The worker's side.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response};
use tokio_util::io::ReaderStream;

use super::{ANSWER, ClientError, Connection, Endpoint, innermost};
use crate::{
    event::{EventsStored, NewEvents},
    headers,
    ids::{QueueName, TaskId},
    inside::HeldLease,
    lease::{Beat, Heartbeat, LeaseQuery, Leased, Release, StartRequest, Started},
    report::{Accepted, Report},
    secret::Secret,
    task::Artifact,
};

/// Time for a heartbeat's answer, beside what it asks to wait: one whose answer is lost is repeated well before the
/// lease is over.
const BEAT_ANSWER: Duration = Duration::from_secs(5);

/// Time for a base's bundle, to its last byte.
const BASE_ANSWER: Duration = Duration::from_secs(1_200);

/// Bytes of a file that are read at once: each read is handed to another thread.
const READ_BYTES: usize = 256 << 10;

/// A body that comes bit by bit.
pub struct Download {
    response: Response,
    server: String,
}

impl Download {
    /// The next bytes; `None` at the end of a whole body.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], where the body was cut.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.response
            .chunk()
            .await
            .map_err(|error| ClientError::Unreachable { server: self.server.clone(), why: innermost(&error) })
    }
}

/// Calls that need a worker's token.
#[derive(Clone)]
pub struct WorkerClient(Connection);

/// Calls that need a lease too.
#[derive(Clone)]
pub struct LeasedClient {
    connection: Connection,
    lease: HeldLease,
}

impl WorkerClient {
    /// A client for the worker's door. Nothing is connected yet.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn new(door: Endpoint, token: Secret) -> Result<Self, ClientError> {
        Connection::new(door, Some(token)).map(Self)
    }

    /// `GET /tasks/lease/{queue}`: a task, or `None` when none came in time.
    ///
    /// # Errors
    /// `wrong_queue`, and as any call.
    pub async fn lease(&self, queue: &QueueName, query: &LeaseQuery) -> Result<Option<Leased>, ClientError> {
        let timeout = ANSWER + Duration::from_secs(query.wait);
        let request = self.0.request(Method::GET, &format!("/tasks/lease/{queue}")).query(query);
        self.0.json_unless_empty(request.timeout(timeout)).await
    }

    /// A client for the calls about one lease.
    #[must_use]
    pub fn with_lease(&self, lease: HeldLease) -> LeasedClient {
        LeasedClient { connection: self.0.clone(), lease }
    }
}

impl LeasedClient {
    fn request(&self, method: Method, verb: &str) -> RequestBuilder {
        self.connection
            .request(method, &format!("/tasks/{}/{verb}", self.lease.task))
            .header(headers::LEASE, self.lease.token.expose())
            .header(headers::ATTEMPT, self.lease.attempt)
    }

    /// The task that the lease is for.
    #[must_use]
    pub fn task(&self) -> &TaskId {
        &self.lease.task
    }

    /// `POST /tasks/{id}/start`.
    ///
    /// # Errors
    /// `lease_lost`, `gateway_unavailable` (the task went back to its queue), and as any call.
    pub async fn start(&self) -> Result<Started, ClientError> {
        self.start_by(&StartRequest::default()).await
    }

    /// The same for a worker that has a key for its agents already: it is given none.
    ///
    /// # Errors
    /// `lease_lost`, and as any call.
    pub async fn start_with_own_key(&self) -> Result<Started, ClientError> {
        self.start_by(&StartRequest { own_key: true }).await
    }

    async fn start_by(&self, wanted: &StartRequest) -> Result<Started, ClientError> {
        self.connection.json(self.request(Method::POST, "start").json(wanted)).await
    }

    /// `GET /tasks/{id}/base`: the pinned base, as a git bundle of one ref. A body that ends before its length is an
    /// error of the stream.
    ///
    /// # Errors
    /// `lease_lost`, `base_missing`, `too_large`, `base_not_ready` (ask again), and as any call.
    pub async fn base(&self) -> Result<Download, ClientError> {
        let request = self.request(Method::GET, "base").timeout(BASE_ANSWER);
        let response = self.connection.send(request).await?;
        Ok(Download { response, server: self.connection.endpoint.to_string() })
    }

    /// `POST /tasks/{id}/release`: gives a lease back that was not started. No attempt is burnt.
    ///
    /// # Errors
    /// `lease_lost`, `wrong_state` (it runs: report an outcome), and as any call.
    pub async fn release(&self, release: &Release) -> Result<(), ClientError> {
        self.connection.send(self.request(Method::POST, "release").json(release)).await.map(|_| ())
    }

    /// `POST /tasks/{id}/heartbeat`, waiting up to `wait` for an order.
    ///
    /// # Errors
    /// `lease_lost`, and as any call.
    pub async fn heartbeat(&self, beat: &Heartbeat, wait: Duration) -> Result<Beat, ClientError> {
        let request = self.request(Method::POST, &format!("heartbeat?wait={}", wait.as_secs()));
        self.connection.json(request.timeout(BEAT_ANSWER + wait).json(beat)).await
    }

    /// `POST /tasks/{id}/events`.
    ///
    /// # Errors
    /// `lease_lost`, `too_large`, and as any call.
    pub async fn events(&self, events: &NewEvents) -> Result<EventsStored, ClientError> {
        self.connection.json(self.request(Method::POST, "events").json(events)).await
    }

    /// `PUT /tasks/{id}/artifacts/{name}` from a file.
    ///
    /// # Errors
    /// `lease_lost`, `too_large`, a file that cannot be read, and as any call.
    pub async fn put_artifact(&self, artifact: &Artifact, file: &Path) -> Result<(), ClientError> {
        let body = tokio::fs::File::open(file).await.map_err(|error| ClientError::File {
            path: file.display().to_string(),
            why: error.to_string(),
        })?;
        let request = self
            .request(Method::PUT, &format!("artifacts/{}", artifact.name))
            .header(headers::SHA256, &artifact.sha256)
            .header("content-length", artifact.size)
            .timeout(ANSWER * 20)
            .body(reqwest::Body::wrap_stream(ReaderStream::with_capacity(body, READ_BYTES)));
        self.connection.send(request).await.map(|_| ())
    }

    /// `POST /tasks/{id}/result`.
    ///
    /// # Errors
    /// `lease_lost`, and as any call.
    pub async fn result(&self, report: &Report) -> Result<Accepted, ClientError> {
        self.connection.json(self.request(Method::POST, "result").json(report)).await
    }
}
