//! Repositories that tasks may be sent to.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::QueueName;

/// The body of `POST /repos`. Repeated, it changes nothing; with another source it is 409.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRepo {
    /// The name of the repository and of its queue.
    pub name: String,
    /// An absolute path on the coordinator's machine, or a URL that git takes.
    pub source: String,
}

/// A registered repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repo {
    /// Its name.
    pub name: QueueName,
    /// Where it is fetched from; a password in a URL is shown as `***`.
    pub source: String,
    /// When it was registered.
    pub created_at: Timestamp,
}
