//! Events on their way to the coordinator: first into a file, then out of it by a task of its own. So neither a
//! flood of output nor a coordinator that is away costs memory, and the agent is never held up.

mod sender;
mod spool;

pub use sender::send;
pub use spool::{Spool, SpoolReader};
