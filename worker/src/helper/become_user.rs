//! The one-way step from user 0 to another.

use rustix::{
    io::Result,
    process::{Gid, Uid, getgid, getuid},
    thread::{
        CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_gid, set_thread_groups,
        set_thread_uid,
    },
};

use crate::command_line::User;

/// Gives up groups, gid, uid and every capability, and the way back to them. The caller must have one thread:
/// the calls are the kernel's, which act on the calling thread alone.
pub(super) fn become_user(user: User) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if getuid() != uid || getgid() != gid {
        set_thread_groups(&[])?;
        set_thread_gid(gid)?;
        set_thread_uid(uid)?;
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)
}
