//! The coordinator: owns the queues. It never runs an agent, never holds a real key, and knows no sandbox flag.
//!
//! `queue` is the heart: the rules, the database, and who waits for what. `http` are the doors, `output` the event
//! streams, `artifacts` the uploads, `source` pins what tasks start from, `bases` hands
//! it out, `keys` asks the gateway for virtual keys.

pub mod artifacts;
pub mod bases;
pub mod clock;
pub mod config;
pub mod coordinator;
pub mod crash_point;
pub mod disk;
pub mod folder;
pub mod http;
pub mod keys;
pub mod metrics;
mod notices;
pub mod output;
pub mod queue;
pub mod retention;
pub mod source;
pub mod tokens;

pub use clock::Clock;
pub use config::Config;
pub use coordinator::{CannotRun, Coordinator, run};
pub use folder::{CannotBegin, Held, Listeners};
