//! Copies bytes between `tcp://`, `unix://` and `vsock://`, in every combination.
//!
//! It holds no secret and knows no protocol. Each accepted connection is dialled anew, so the program behind
//! the dialled address may restart at any time.

pub mod address;
mod copy;
pub mod counters;
pub mod dial;
pub mod limits;
pub mod listen;
pub mod pipes;
mod seldom;
pub mod server;
mod short_path;
pub mod socket;

pub use address::{Address, DialAddress, ListenAddress};
pub use counters::Counters;
pub use limits::Limits;
pub use listen::Listener;
pub use server::run;
