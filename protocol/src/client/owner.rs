//! The owner's side.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use reqwest::{Method, Response};
use serde_json::Value;

use super::{ANSWER, ClientError, Connection, Endpoint};
use crate::{
    event::Event,
    ids::{ArtifactName, QueueName, TaskId, WorkerId},
    queue::{ChangeQueue, QueueStatus},
    repo::{NewRepo, Repo},
    secret::Secret,
    submit::NewTask,
    task::{Cancel, Message, MessageAccepted, Retry, Task, TaskFilter, TaskPage},
    worker::{NewWorker, Registered, WorkerEnd},
};

/// Calls that need the owner's key.
#[derive(Clone)]
pub struct OwnerClient(Connection);

/// A task's events as they come; ends when the task has ended and all was told, or with an error.
pub type EventStream = std::pin::Pin<Box<dyn Stream<Item = Result<Event, ClientError>> + Send>>;

impl OwnerClient {
    /// A client for the coordinator at this address. Nothing is connected yet.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn new(endpoint: Endpoint, key: Secret) -> Result<Self, ClientError> {
        Connection::new(endpoint, Some(key)).map(Self)
    }

    /// `GET /health`.
    ///
    /// # Errors
    /// As any call.
    pub async fn health(&self) -> Result<Value, ClientError> {
        self.0.json(self.0.request(Method::GET, "/health")).await
    }

    /// `POST /tasks` with one task; with `wait`, the answer comes when the task has ended or the time is
    /// over.
    ///
    /// # Errors
    /// `unknown_repository`, `invalid`, `too_large`, `task_id_taken`, and as any call.
    pub async fn submit(&self, task: &NewTask, wait: Duration) -> Result<Task, ClientError> {
        let path = format!("/tasks?wait={}", wait.as_secs());
        self.0.json(self.0.request(Method::POST, &path).timeout(ANSWER + wait).json(task)).await
    }

    /// `GET /tasks/{id}`; with `wait`, the answer comes when the task has ended or the time is over.
    ///
    /// # Errors
    /// `unknown_task`, and as any call.
    pub async fn task(&self, id: &TaskId, wait: Duration) -> Result<Task, ClientError> {
        let path = format!("/tasks/{id}?wait={}", wait.as_secs());
        self.0.json(self.0.request(Method::GET, &path).timeout(ANSWER + wait)).await
    }

    /// `GET /tasks`.
    ///
    /// # Errors
    /// As any call.
    pub async fn tasks(&self, filter: &TaskFilter) -> Result<TaskPage, ClientError> {
        self.0.json(self.0.request(Method::GET, "/tasks").query(filter)).await
    }

    /// `POST /tasks/{id}/cancel`. A task that has ended stays as it is: `wrong_state`.
    ///
    /// # Errors
    /// `unknown_task`, `wrong_state`, `invalid`, and as any call.
    pub async fn cancel(&self, id: &TaskId, cancel: &Cancel) -> Result<Task, ClientError> {
        self.0.post(&format!("/tasks/{id}/cancel"), cancel).await
    }

    /// `POST /tasks/{id}/retry`: a new task that does the same from the same base.
    ///
    /// # Errors
    /// `unknown_task`, `wrong_state` (it has not ended), `task_id_taken`, `unique_key_taken`, `queue_draining`, and
    /// as any call.
    pub async fn retry(&self, id: &TaskId, retry: &Retry) -> Result<Task, ClientError> {
        self.0.post(&format!("/tasks/{id}/retry"), retry).await
    }

    /// `POST /tasks/{id}/approve`. Repeated, it changes nothing.
    ///
    /// # Errors
    /// `unknown_task`, `wrong_state` (it waits for no approval), and as any call.
    pub async fn approve(&self, id: &TaskId) -> Result<Task, ClientError> {
        self.0.post(&format!("/tasks/{id}/approve"), &serde_json::json!({})).await
    }

    /// `POST /tasks/{id}/message`: for the agent of a running task.
    ///
    /// # Errors
    /// `unknown_task`, `wrong_state` (it does not run, or has no agent), `invalid`, `too_large`, and as any call.
    pub async fn message(&self, id: &TaskId, message: &Message) -> Result<MessageAccepted, ClientError> {
        self.0.post(&format!("/tasks/{id}/message"), message).await
    }

    /// `GET /queues`: all of them, by name.
    ///
    /// # Errors
    /// As any call.
    pub async fn queues(&self) -> Result<Vec<QueueStatus>, ClientError> {
        self.0.json(self.0.request(Method::GET, "/queues")).await
    }

    /// `POST /queues/{name}`.
    ///
    /// # Errors
    /// `unknown_repository`, and as any call.
    pub async fn change_queue(
        &self,
        name: &QueueName,
        change: &ChangeQueue,
    ) -> Result<QueueStatus, ClientError> {
        self.0.post(&format!("/queues/{name}"), change).await
    }

    /// `GET /tasks/{id}/events` from after `after`; with `follow`, on until the task has ended, else what there is.
    ///
    /// # Errors
    /// `unknown_task`, and as any call; the stream's items likewise.
    pub async fn events(&self, id: &TaskId, after: u64, follow: bool) -> Result<EventStream, ClientError> {
        let request = self.0.request(Method::GET, &format!("/tasks/{id}/events?follow={follow}"));
        let request =
            request.header("last-event-id", after).timeout(Duration::from_secs(u64::from(u32::MAX)));
        let response = self.0.send(request).await?;
        let connection = self.0.clone();
        let messages = eventsource_stream::Eventsource::eventsource(response.bytes_stream());
        Ok(Box::pin(messages.map(move |message| {
            match message {
                Ok(message) => serde_json::from_str(&message.data)
                    .map_err(|error| connection.malformed(200, &error.to_string())),
                Err(error) => Err(ClientError::Unreachable {
                    server: connection.endpoint.to_string(),
                    why: super::innermost(&error),
                }),
            }
        })))
    }

    /// `GET /tasks/{id}/artifacts/{name}`: its body is the artifact.
    ///
    /// # Errors
    /// `unknown_task`, `unknown_artifact`, and as any call.
    pub async fn artifact(&self, id: &TaskId, name: &ArtifactName) -> Result<Response, ClientError> {
        let request = self.0.request(Method::GET, &format!("/tasks/{id}/artifacts/{name}"));
        // All of the body has to come within this time.
        self.0.send(request.timeout(ANSWER * 20)).await
    }

    /// `POST /repos`.
    ///
    /// # Errors
    /// `invalid`, `bad_source`, `repository_taken`, and as any call.
    pub async fn add_repo(&self, repo: &NewRepo) -> Result<Repo, ClientError> {
        self.0.json(self.0.request(Method::POST, "/repos").timeout(ANSWER * 20).json(repo)).await
    }

    /// `GET /repos`.
    ///
    /// # Errors
    /// As any call.
    pub async fn repos(&self) -> Result<Vec<Repo>, ClientError> {
        self.0.json(self.0.request(Method::GET, "/repos")).await
    }

    /// `DELETE /repos/{name}`.
    ///
    /// # Errors
    /// `unknown_repository`, `repository_busy`, and as any call.
    pub async fn remove_repo(&self, name: &QueueName) -> Result<(), ClientError> {
        self.0.send(self.0.request(Method::DELETE, &format!("/repos/{name}"))).await.map(|_| ())
    }

    /// `POST /workers`.
    ///
    /// # Errors
    /// `unknown_repository`, and as any call.
    pub async fn register_worker(&self, worker: &NewWorker) -> Result<Registered, ClientError> {
        self.0.post("/workers", worker).await
    }

    /// `POST /workers/{id}/end`.
    ///
    /// # Errors
    /// `unknown_worker`, and as any call.
    pub async fn end_worker(&self, id: &WorkerId, end: &WorkerEnd) -> Result<(), ClientError> {
        self.0.send(self.0.request(Method::POST, &format!("/workers/{id}/end")).json(end)).await.map(|_| ())
    }
}
