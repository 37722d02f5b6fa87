//! The command and the scripts, against the real coordinator and gateway
//! (`cargo build --workspace` comes before).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod images;
mod lost_answers;
mod orders;
mod queues;
mod results;
mod scripts;
mod support;
mod tasks;
mod up;
mod worker;
