//! Whole-system scenarios: real processes, real gVisor, real agents. The scenarios are in `tests/`; here is what
//! they stand on: a [`Place`] with folders, key and ports of its own, and [`Process`]es that end with it.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "this is a test's own code: a panic is how it fails"
)]

mod agents;
mod docker;
mod files;
mod machine;
mod meter;
mod place;
mod process;
mod unruly;
mod vm;

pub use agents::{Agent, agents_folder};
pub use docker::{Image, tar_of_programs};
pub use files::wait_for_file;
pub use machine::Machine;
pub use meter::{Measured, close_half, far_end, measure};
pub use place::{Place, REAL_KEY, Ran};
pub use process::Process;
pub use unruly::{Passed, Plan, Trouble, Unruly, Verb};
pub use vm::{Disk, Vm, kernel_folder};
