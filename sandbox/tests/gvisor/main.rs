//! Real sandboxes, as root and as a plain user.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a panic is how a test fails, and a skip is said"
)]

mod house;
mod isolation;
mod life;
mod limits;
mod probe;
