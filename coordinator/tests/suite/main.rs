//! The coordinator from outside and from its queue: real SQLite, real sockets, one program for all of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects")]
#![allow(clippy::print_stdout, reason = "what cannot run here is named")]

mod artifacts;
mod bad_input;
mod bases;
mod bifrost;
mod clock;
mod doors;
mod gateway;
mod house;
mod leases;
mod orders;
mod program;
mod queues;
mod repeated;
mod restart;
mod retention;
mod round_trip;
mod source;
mod storage;
mod streams;
mod time;
