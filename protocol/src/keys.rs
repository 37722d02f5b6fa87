//! What the coordinator asks of the gateway over its admin socket.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{KeyName, QueueName, TaskId},
    money::Usd,
    secret::Secret,
};

/// What a key may do beside spending. Nothing set is nothing limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyLimits {
    /// Requests in any minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Tokens in any minute, in and out together, cache included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Requests at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
    /// Models that may be asked, `*` standing for anything: `claude-*`. Empty is all that have a price.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
}

/// The body of `POST /keys`: a virtual key for one attempt. The key is derived from task, attempt and birth,
/// so the same request brings the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MintKey {
    /// The task: its account is charged by all its attempts, and by those of its retries.
    pub task: TaskId,
    /// When the task was made. An id that is used again, after its task was removed, has another account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<Timestamp>,
    /// The attempt.
    pub attempt: u32,
    /// For a retry: the first task of the chain, whose account pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<FirstTask>,
    /// The repository: a part of the account's path.
    pub queue: QueueName,
    /// What the task may spend, all attempts and retries together.
    pub budget_usd: Usd,
    /// After this the key is refused.
    pub expires_at: Timestamp,
    /// What else limits it.
    #[serde(default)]
    pub limits: KeyLimits,
}

/// The task that others retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstTask {
    /// Its id.
    pub task: TaskId,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<Timestamp>,
}

/// The body of `POST /owner-keys`: a virtual key of the owner's own. The same name brings the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MintOwnerKey {
    /// What the key is called, and its account.
    pub name: KeyName,
    /// What it may spend.
    pub budget_usd: Usd,
    /// The repository whose day it is charged to as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    /// After this the key is refused.
    pub expires_at: Timestamp,
    /// What else limits it.
    #[serde(default)]
    pub limits: KeyLimits,
}

/// The answer to `POST /keys` and `POST /owner-keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MintedKey {
    /// `sk-cw-…`.
    pub key: Secret,
}

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It opens the door.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
    /// An account of its path is spent.
    Spent,
}

/// A key, but not its secret: the answer to `GET /keys/{task}/{attempt}` and `GET /owner-keys/{name}`, and a
/// line of `GET /keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// `TASK/ATTEMPT`, or the owner's name for it.
    pub id: String,
    /// The accounts that it charges, the narrowest first: `task:ID` or `key:NAME`, `repo:NAME`, `day`.
    pub accounts: Vec<String>,
    /// What the first of them may spend; none is without a limit.
    pub budget_usd: Option<Usd>,
    /// Charged to the first of them, by whichever key.
    pub account_spent_usd: Usd,
    /// Charged by this key.
    pub spent_usd: Usd,
    /// Held for this key's requests under way.
    pub held_usd: Usd,
    /// Its requests that reached the model.
    pub requests: u64,
    /// When it ends.
    pub expires_at: Timestamp,
    /// How it stands.
    pub state: KeyState,
    /// What else limits it.
    pub limits: KeyLimits,
}

/// The answer to `GET /keys`: keys that are known, the latest to end first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// One each.
    pub keys: Vec<KeyInfo>,
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
    /// Tools and fields that were taken out of requests, and how often: at most
    /// [`REMOVED_NAMES`](crate::limits::REMOVED_NAMES), the rest under `other`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removed: BTreeMap<String, u64>,
}

/// An account: a line of `GET /budgets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetInfo {
    /// `day`, `repo:NAME`, `task:ID` or `key:NAME`.
    pub account: String,
    /// The day (UTC) that it counts, for `day` and `repo:NAME`.
    pub day: Option<Date>,
    /// What may be spent; none is without a limit.
    pub limit_usd: Option<Usd>,
    /// Charged.
    pub spent_usd: Usd,
    /// Held for requests under way.
    pub held_usd: Usd,
}

/// The answer to `GET /budgets`: today's accounts, and those of keys that are valid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetList {
    /// The widest first.
    pub budgets: Vec<BudgetInfo>,
}

/// What a limit is set for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// All that is spent on a day (UTC), today and from now on.
    Day,
    /// All that a repository's tasks spend on a day.
    Repo(QueueName),
    /// A task with its retries. A first mint sets it too; what is set here stands before that.
    Task(TaskId),
}

/// The body of `PUT /budgets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetBudget {
    /// Whose.
    pub scope: BudgetScope,
    /// The limit; none lifts it.
    pub limit_usd: Option<Usd>,
}

/// That an account has come near its limit: each of the two marks is told once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Grows, also over restarts of the gateway.
    pub seq: u64,
    /// The task whose request passed the mark; none for a key of the owner's own.
    pub task: Option<TaskId>,
    /// `task:ID`, `key:NAME`, `repo:NAME` or `day`.
    pub account: String,
    /// 80 or 95.
    pub percent: u8,
    /// Charged.
    pub spent_usd: Usd,
    /// The account's limit.
    pub budget_usd: Usd,
}

/// The answer to `GET /notices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notices {
    /// To be asked after next.
    pub next: u64,
    /// In order. The oldest are let go where nobody asks.
    pub notices: Vec<Notice>,
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
