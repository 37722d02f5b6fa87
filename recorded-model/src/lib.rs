//! A model API that plays recorded turns, for the quickstart, the tests and the benchmarks.
//!
//! It speaks Anthropic's Messages and OpenAI's Chat Completions and Responses, streamed and not, and
//! answers each request with a turn of one provider-neutral [`script`]. Which turn is decided by how
//! many assistant turns the request already holds, so a retry gets the same answer and nothing has to be
//! remembered between requests.
//!
//! [`record`] goes the other way: from a real API's answers to such a script.

pub mod choose;
pub mod dialect;
pub mod log;
pub mod record;
pub mod reply;
pub mod script;
pub mod server;
mod stream;

pub use server::{Config, run};
