//! What every store of the queue has to hold to, written against commands: `commands` is what can be asked, `model`
//! what a user is promised, `system` the store that is asked. Another store brings another `system`, and nothing else.
//!
//! `sequences` asks both the same at random and compares; `promises` are the same promises as examples to read;
//! `schemas` opens what earlier versions wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

mod both;
mod commands;
mod generate;
mod model;
mod promises;
mod schemas;
mod sequences;
mod span;
mod system;
