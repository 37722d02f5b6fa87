//! The gateway's admin door, which the coordinator uses.

use super::{ClientError, Connection, Endpoint};
use crate::{
    ids::{KeyName, TaskId},
    keys::{
        BudgetInfo, BudgetList, GatewayHealth, KeyInfo, KeyList, KeyUsage, MintKey, MintOwnerKey, MintedKey,
        Notices, SetBudget,
    },
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

    /// `POST /owner-keys`: a key of the owner's own. The same name brings the same key, with what the request
    /// says of it; one that was revoked stays so.
    ///
    /// # Errors
    /// As any call.
    pub async fn mint_owner(&self, key: &MintOwnerKey) -> Result<MintedKey, ClientError> {
        self.0.post("/owner-keys", key).await
    }

    /// `POST /owner-keys/{name}/revoke`: the key is refused from now on.
    ///
    /// # Errors
    /// As any call; `not_found` where it was never minted.
    pub async fn revoke_owner(&self, name: &KeyName) -> Result<KeyInfo, ClientError> {
        self.0.post(&format!("/owner-keys/{name}/revoke"), &serde_json::json!({})).await
    }

    /// `GET /owner-keys/{name}`.
    ///
    /// # Errors
    /// As any call; `not_found` where it was never minted.
    pub async fn owner_key(&self, name: &KeyName) -> Result<KeyInfo, ClientError> {
        self.0.json(self.0.request(reqwest::Method::GET, &format!("/owner-keys/{name}"))).await
    }

    /// `GET /keys/{task}/{attempt}`.
    ///
    /// # Errors
    /// As any call; `not_found` where it was never minted.
    pub async fn task_key(&self, task: &TaskId, attempt: u32) -> Result<KeyInfo, ClientError> {
        self.0.json(self.0.request(reqwest::Method::GET, &format!("/keys/{task}/{attempt}"))).await
    }

    /// `GET /keys`: every key that is known.
    ///
    /// # Errors
    /// As any call.
    pub async fn keys(&self) -> Result<KeyList, ClientError> {
        self.0.json(self.0.request(reqwest::Method::GET, "/keys")).await
    }

    /// `GET /budgets`: how the accounts stand.
    ///
    /// # Errors
    /// As any call.
    pub async fn budgets(&self) -> Result<BudgetList, ClientError> {
        self.0.json(self.0.request(reqwest::Method::GET, "/budgets")).await
    }

    /// `PUT /budgets`: sets or lifts a limit, for good.
    ///
    /// # Errors
    /// As any call; `not_found` for a task without an account.
    pub async fn set_budget(&self, set: &SetBudget) -> Result<BudgetInfo, ClientError> {
        self.0.json(self.0.request(reqwest::Method::PUT, "/budgets").json(set)).await
    }

    /// `GET /notices?after=SEQ&wait=SECONDS`: what has come near its limit after `after`; with nothing to tell,
    /// after `wait_s` seconds at most.
    ///
    /// # Errors
    /// As any call.
    pub async fn notices(&self, after: u64, wait_s: u16) -> Result<Notices, ClientError> {
        let path = format!("/notices?after={after}&wait={wait_s}");
        let time = super::ANSWER + std::time::Duration::from_secs(wait_s.into());
        self.0.json(self.0.request(reqwest::Method::GET, &path).timeout(time)).await
    }
}
