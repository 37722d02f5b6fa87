//! Attempts at tasks as the agent's user would make them in a sandbox: real git, real users, real processes. They
//! need root, because becoming another user does; each has a user of its own, because ending an agent ends all
//! processes of its user.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

#[path = "attempt/place.rs"]
mod place;

#[path = "attempt/branch.rs"]
mod branch;
#[path = "attempt/ending.rs"]
mod ending;
#[path = "attempt/exec.rs"]
mod exec;
