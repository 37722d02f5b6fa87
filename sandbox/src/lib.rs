//! A policy in, a running sandbox out.
//!
//! [`Policy`] says what a sandbox may see and use; [`Runtime`] is how it is stood up, found out by asking what is on
//! this machine ([`Runsc::probe`], [`Docker::probe`], [`Fortress::probe`], [`Bare::probe`]). A pure function joins the two into what is run
//! ([`oci_spec()`], [`run_arguments`], [`fortress_arguments`], [`bare_plan`]); [`start()`] runs it and [`destroy()`] leaves nothing behind, also from another
//! process and also twice. This room knows no task, no queue and no key.

mod bare;
mod cgroup;
mod console;
mod destroy;
mod docker;
mod fortress;
mod host_toolchain;
mod image_root;
mod leftovers;
mod policy;
mod probe;
mod process;
mod root_folder;
mod runsc;
mod runtime;
mod spec;
mod start;

pub use bare::{Bare, BareError, BarePlan, bare_plan};
pub use destroy::DestroyError;
pub use docker::{
    Addresses, Docker, DockerError, Joined, Knock, Network, Shim, run_arguments, shim_arguments,
};
pub use fortress::{Fortress, FortressError, fortress_arguments, token_file};
pub use host_toolchain::{HostToolchain, ToolchainError};
pub use image_root::ImageRoot;
pub use policy::{BadPath, HostPath, InsidePath, Limits, Mount, Policy, Root, SandboxId, User, Work};
pub use probe::ProbeError;
pub use runsc::{Doors, MemoryLimit, Platform, Runsc, Version, WorkStore};
pub use runtime::{Runtime, Sandbox, destroy, start};
pub use spec::oci_spec;
pub use start::{Exit, Signal, StartError};
