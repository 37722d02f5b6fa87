//! The work tree: from a pinned base to a branch, a patch and a bundle. Every git runs as the agent's user, and
//! the worker sees its pipes alone: what the agent left in `.git` is configuration that runs programs.

mod base;
mod checkout;
mod command;
mod outputs;
mod rescue;
mod take;

pub use base::Base;
pub use checkout::{CheckoutError, checkout, configuration, prepare};
pub use command::{Git, GitError};
pub use outputs::{Outputs, outputs};
pub use take::{Taken, take};

/// The folder of the work tree whose files are handed over as artifacts, and never committed.
pub const ARTIFACTS: &str = ".artifacts";
/// Who commits what an agent left uncommitted.
pub const IDENTITY: (&str, &str) = ("code-workers", "code-workers@localhost");
