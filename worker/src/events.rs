//! Events on their way to the coordinator: first into files, then out of them by a task of its own. So neither a
//! flood of output nor a coordinator that is away costs memory, and the agent is never held up.

mod reader;
mod row;
mod sender;
mod spool;

pub use reader::SpoolReader;
pub use sender::send;
pub use spool::Spool;
