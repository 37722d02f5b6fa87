//! What the ledger answers.

use std::sync::Arc;

use jiff::Timestamp;
use protocol::Usd;

/// Who sent a request: a key that is valid now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// `TASK/ATTEMPT`, or the owner's name for the key.
    pub name: Arc<str>,
    /// When the key ends.
    pub expires_at: Timestamp,
    /// The key.
    pub(super) key: u64,
}

/// Why a key does not open the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Nobody minted it, or long ago.
    #[error("this virtual key was never minted by this gateway")]
    Unknown,
    /// Its time is over.
    #[error("this virtual key has expired: its task's time is over")]
    Expired,
    /// Its lease is over.
    #[error("this virtual key was revoked: its task's lease is over")]
    Revoked,
}

/// Why a request may not go out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMoney {
    /// An account of the key's path does not cover it.
    #[error("{spent} USD of the {limit} USD of {account} are spent")]
    Spent {
        /// The first account that refused: `task:ID`, `key:NAME`, `repo:NAME` or `day`.
        account: String,
        /// The account's limit.
        limit: Usd,
        /// What of it is gone.
        spent: Usd,
    },
    /// An answer has passed the budget, so that nothing more is begun.
    #[error("an answer to this key has passed its budget")]
    Cut,
    /// The key is not for this model.
    #[error("this virtual key is for {allowed}, and not for this model")]
    Model {
        /// What it may ask.
        allowed: String,
    },
    /// Too many of something, for now.
    #[error("this virtual key may have {limit} {what}")]
    Pace {
        /// How many.
        limit: u64,
        /// Of what.
        what: &'static str,
        /// After how many seconds the same request would pass, as far as is known now.
        retry_after_s: u16,
    },
    /// The key ended before there was money, while the request came in or waited.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// The ledger cannot write.
    #[error("the ledger cannot be written: {0}")]
    Storage(String),
}

/// What an answer has cost beyond its hold is not on disk yet: more of it is passed on only after
/// [`Ledger::flushed`](super::Ledger::flushed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unflushed(pub(super) u64);

/// Whether an answer that costs more than was held may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// An account does not afford it.
    Refused,
    /// It may, where there is something to wait for after that.
    Granted(Option<Unflushed>),
}

/// A key's own view of what it may spend: the answer to `GET /v1/key`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Balance {
    /// The account that pays: `task:ID` or `key:NAME`.
    pub account: String,
    /// What may be spent, all attempts and retries together; none is without a limit.
    pub budget_usd: Option<Usd>,
    /// What is charged.
    pub spent_usd: Usd,
    /// What is held for requests under way.
    pub held_usd: Usd,
    /// When the key ends.
    pub expires_at: Timestamp,
}
