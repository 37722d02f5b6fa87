//! A policy in, a running gVisor sandbox out.
//!
//! [`Policy`] says what a sandbox may see and use; [`Runsc::probe`] asks the binary on this machine what it
//! can do; [`oci_spec()`] joins the two into an OCI document; [`start()`] runs it and [`destroy()`] leaves nothing
//! behind, also from another process and also twice. This room knows no task, no queue and no key.

mod cgroup;
mod console;
mod destroy;
mod host_toolchain;
mod leftovers;
mod policy;
mod probe;
mod root_folder;
mod runsc;
mod spec;
mod start;

pub use destroy::{DestroyError, destroy};
pub use host_toolchain::{HostToolchain, ToolchainError};
pub use policy::{BadPath, HostPath, InsidePath, Limits, Mount, Policy, Root, SandboxId, User, Work};
pub use probe::ProbeError;
pub use runsc::{Doors, MemoryLimit, Platform, Runsc, Version, WorkStore};
pub use spec::oci_spec;
pub use start::{Exit, Sandbox, Signal, StartError, start};
