//! Copies bytes between `tcp://`, `unix://` and `vsock://`, in every combination.
//!
//! It holds no secret and knows no protocol. Each accepted connection is dialled anew, so the program behind
//! the dialled address may restart at any time.

pub mod address;
pub mod connection;
pub mod copy;
pub mod server;
mod short_path;

pub use address::{Address, DialAddress, ListenAddress};
pub use connection::Listener;
pub use server::{Limits, run};
