//! The real coordinator, a process of its own under the load of many clients and workers, ended by SIGKILL at named
//! points and at any moment; and what a disk may do to its files on top of that.
//!
//! A usual run is a short one. For more, `CODE_WORKERS_CRASH_KILLS=200 cargo nextest run -p coordinator --test crash`,
//! or 10000; `CODE_WORKERS_CRASH_FLIPS` is for damaged copies what that is for kills. `CODE_WORKERS_CRASH_SEED` repeats
//! the choices of a run, which says its seed; what runs at the same time stays the machine's choice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a panic is how a test fails, and what a run did is told to who started it"
)]

mod check;
mod child;
mod damage;
mod end;
mod gateway;
mod history;
mod http;
mod kills;
mod large;
mod lives;
mod owners;
mod place;
mod readers;
mod retention;
mod survival;
mod unflushed;
mod workers;
mod world;
