//! What the ledger answers.

use jiff::Timestamp;
use protocol::{TaskId, Usd};

use crate::virtual_key::KeyHash;

/// Who sent a request: a key that is valid now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The task, which is also the account's name.
    pub task: TaskId,
    /// When the key ends.
    pub expires_at: Timestamp,
    /// The key.
    pub(super) key: KeyHash,
}

/// Why a key does not open the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Nobody minted it.
    #[error("this virtual key was never minted by this gateway")]
    Unknown,
    /// Its time is over.
    #[error("this virtual key has expired: its task's time is over")]
    Expired,
    /// Its lease is over.
    #[error("this virtual key was revoked: its task's lease is over")]
    Revoked,
}

/// Why there is no money for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMoney {
    /// The account's budget does not cover it.
    #[error("{spent} USD of the {budget} USD are spent")]
    Spent {
        /// The budget of the account that refused.
        budget: Usd,
        /// What of it is gone.
        spent: Usd,
    },
    /// The key ended before there was money, while the request came in or waited.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// The ledger cannot write.
    #[error("the ledger cannot be written: {0}")]
    Storage(String),
}

/// A key's own view of its account: the answer to `GET /v1/key`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Balance {
    /// The task that pays.
    pub task: TaskId,
    /// What the task may spend, all attempts together.
    pub budget_usd: Usd,
    /// What is charged.
    pub spent_usd: Usd,
    /// What is held for requests under way.
    pub held_usd: Usd,
    /// When the key ends.
    pub expires_at: Timestamp,
}
