//! The gateway's admin door, which the coordinator uses.

use super::{ClientError, Connection, Endpoint};
use crate::{
    ids::TaskId,
    keys::{GatewayHealth, KeyUsage, MintKey, MintedKey},
};

/// Calls that mint and revoke virtual keys. Who can connect to the socket may make them.
#[derive(Clone)]
pub struct AdminClient(Connection);

impl AdminClient {
    /// A client for the admin socket. Nothing is connected yet.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn new(door: Endpoint) -> Result<Self, ClientError> {
        Connection::new(door, None).map(Self)
    }

    /// `GET /health`: that it runs, and which providers it can call.
    ///
    /// # Errors
    /// As any call.
    pub async fn health(&self) -> Result<GatewayHealth, ClientError> {
        self.0.json(self.0.request(reqwest::Method::GET, "/health")).await
    }

    /// `POST /keys`: the same request brings the same key.
    ///
    /// # Errors
    /// As any call.
    pub async fn mint(&self, key: &MintKey) -> Result<MintedKey, ClientError> {
        self.0.post("/keys", key).await
    }

    /// `POST /keys/{task}/{attempt}/revoke`: the key is refused from now on. Repeated, it changes nothing.
    ///
    /// # Errors
    /// As any call.
    pub async fn revoke(&self, task: &TaskId, attempt: u32) -> Result<KeyUsage, ClientError> {
        self.0.post(&format!("/keys/{task}/{attempt}/revoke"), &serde_json::json!({})).await
    }

    /// `GET /keys/{task}`: what all the task's keys have used.
    ///
    /// # Errors
    /// As any call.
    pub async fn usage(&self, task: &TaskId) -> Result<KeyUsage, ClientError> {
        self.0.json(self.0.request(reqwest::Method::GET, &format!("/keys/{task}"))).await
    }
}
