//! The doors: one for agents, one for the coordinator.

pub mod admin;
mod agents;
pub mod connections;
pub mod lanes;
mod uploads;

pub use uploads::{Upload, Uploads};

/// Bytes of a request's body: Anthropic's own limit. What is over is refused with 413.
pub const BODY_BYTES: usize = 32 * 1024 * 1024;
