//! Every word that code-workers' programs say to each other: types, limits, error codes, the folders
//! and settings they share, and the HTTP client.
//!
//! This room has no clock, no SQL and no server. The prose beside it is `docs/protocol.md`.

pub mod client;
pub mod event;
pub mod folders;
pub mod headers;
pub mod ids;
pub mod image;
pub mod inside;
pub mod keys;
pub mod lease;
pub mod limits;
pub mod money;
pub mod problem;
pub mod queue;
pub mod repo;
pub mod report;
pub mod secret;
pub mod settings;
pub mod submit;
pub mod task;
pub mod worker;

pub use event::{Event, EventBody, NewEvent};
pub use ids::{QueueName, TaskId, WorkerId};
pub use money::Usd;
pub use problem::{Code, Problem};
pub use secret::Secret;
pub use task::{Task, TaskState};
