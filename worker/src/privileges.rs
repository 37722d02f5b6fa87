//! What this process may do, and what others may do to it.

use rustix::{
    process::{DumpableBehavior, geteuid, set_dumpable_behavior},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    },
};

/// What it takes to start programs as another user, and to end them.
const NEEDED: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::KILL).union(CapabilitySet::CHOWN);

/// Keeps processes of the same user out of this one's memory, descriptors and environment, and its memory out of
/// core dumps. To be called again after each `execve`.
pub(crate) fn hide_memory() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("this process's memory cannot be hidden from its own user: {error}");
    }
}

/// Whether this process may act as another user; then it keeps what that takes, and no other capability. The caller
/// must have one thread: the calls are the kernel's, which act on the calling thread alone.
pub(crate) fn keep_needed() -> bool {
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    if !geteuid().is_root() || !held.contains(NEEDED) {
        return false;
    }
    for capability in CapabilitySet::all().difference(NEEDED).iter() {
        // Without SETPCAP it stays in the bounding set, which is what programs of user 0 begin with.
        let _ = remove_capability_from_bounding_set(capability);
    }
    let kept = CapabilitySets { effective: NEEDED, permitted: NEEDED, inheritable: CapabilitySet::empty() };
    if let Err(error) = set_capabilities(None, kept) {
        tracing::warn!("capabilities that are not needed could not be given up: {error}");
    }
    true
}
