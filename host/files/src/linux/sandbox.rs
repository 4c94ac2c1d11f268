//! What this process gives up before it serves.
//!
//! Called once at the start, before any thread but the first. Landlock cannot bound which directories are
//! served, for it refuses opens below directories that come later by descriptor; what bounds them is that
//! nothing here opens by name.

use std::io;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

/// Rights over files that the host's root has and a files process of root keeps: reading, writing and
/// changing what others own. All else goes, setting setuid bits (FSETID) and making devices (MKNOD) first.
const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER);

/// Closes every descriptor but the standard ones, whatever the parent forgot to close.
///
/// To be called before this process has opened anything itself.
pub fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above 2 yet, so none can be used after this.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Gives up privileges, raises the number of descriptors to the most allowed and returns it.
pub fn prepare() -> io::Result<usize> {
    // Modes come from the guest, whose kernel has applied the caller's umask.
    umask(Mode::empty());
    set_no_new_privs(true)?;
    // No other process of this user may read guest memory out of this one.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let held = capabilities(None)?;
    let kept = held.permitted & KEPT;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    let limit = getrlimit(Resource::Nofile);
    // A limit without end is still an int to the kernel; a million descriptors is more than is ever used.
    let most = limit.maximum.unwrap_or(1 << 20).min(1 << 20);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(most),
            maximum: Some(most),
        },
    )?;
    Ok(usize::try_from(most).unwrap_or(1024))
}
