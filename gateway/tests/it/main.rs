//! The gateway's program over real sockets, in front of the recorded model, and of a raw one where the
//! recorded cannot misbehave enough.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod budget;
mod compressed;
mod doors;
mod exact;
mod house;
mod passing;
mod program;
mod secrets;
mod stalled;
mod upstreams;
mod usable;
