//! What the coordinator asks of the gateway over its admin socket.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{QueueName, TaskId},
    money::Usd,
    secret::Secret,
};

/// The body of `POST /keys`: a virtual key for one attempt. The key is derived from task and attempt, so
/// the same request brings the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MintKey {
    /// The task: also the account that all its attempts charge.
    pub task: TaskId,
    /// The attempt.
    pub attempt: u32,
    /// The repository: a part of the account's path.
    pub queue: QueueName,
    /// What the task may spend, all attempts together.
    pub budget_usd: Usd,
    /// After this the key is refused.
    pub expires_at: Timestamp,
}

/// The answer to `POST /keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MintedKey {
    /// `sk-cw-…`.
    pub key: Secret,
}

/// What a task's keys have used, by the gateway's ledger: the answer to `POST /keys/{task}/{attempt}/revoke`
/// and to `GET /keys/{task}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUsage {
    /// Charged, all attempts together.
    pub spent_usd: Usd,
    /// Held for requests under way, which may still be charged.
    #[serde(default)]
    pub held_usd: Usd,
    /// Requests that reached the model.
    pub requests: u64,
    /// Tokens in, cache included.
    pub input_tokens: u64,
    /// Tokens out, reasoning included.
    pub output_tokens: u64,
    /// Models that answered.
    #[serde(default)]
    pub models: Vec<String>,
}

/// How the gateway stands: the answer to `GET /health` at its admin door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayHealth {
    /// `ok`.
    pub status: String,
    /// Requests that are not settled yet.
    pub requests_under_way: u64,
    /// Where requests go, a provider each.
    pub upstreams: Vec<UpstreamHealth>,
}

/// One provider of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamHealth {
    /// `anthropic` or `openai`.
    pub provider: String,
    /// Where its API is.
    pub base_url: String,
    /// Whether the gateway can call it: it holds a real key, or the server is on this machine.
    pub usable: bool,
    /// The variable that the key is read from.
    pub key_variable: String,
}
