//! The file system that is served: the host's shares below a made-up root.
//!
//! ```text
//!   request ─► serve (the crate's trait) ─► namespace, attributes, io, directories, xattrs
//!                                              │            │
//!                                           nodes, handles  owner + sidecar (what the guest set)
//!                                              │
//!                                             sys (one component at a time, by descriptor)
//! ```
//!
//! Called by [`super::requests`]. Every change of anything on the host passes [`nodes::Located::writable`]
//! or [`handles::Handle::file_to_change`] first; there is no other way to a descriptor in a function that changes.

mod attributes;
mod directories;
pub mod handles;
mod io;
mod namespace;
pub mod nodes;
mod owner;
pub mod places;
mod serve;
pub mod shares;
pub mod sidecar;
pub mod sys;
mod xattrs;

use std::sync::Arc;
use std::time::Duration;

use handles::Handles;
use nodes::{NodeLimits, Nodes};
use places::Rules;
use rustix::io::Errno;
use shares::Shares;
use sidecar::Sidecar;

use super::control_server::Observer;
use crate::control::Status;

/// How long the guest may believe a name or an attribute: not at all, for 6.12's virtio-fs has no way to
/// be told that the host changed it.
const BELIEVED: Duration = Duration::ZERO;

/// Bounds of what a guest can make this process hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most files and directories open at once.
    pub handles: usize,
    /// Of inodes known and their descriptors.
    pub nodes: NodeLimits,
}

impl Limits {
    /// Inodes the guest may know at once: some 400 bytes each here at the most, and about as many as the
    /// kernel of a guest with 2 GiB can hold itself.
    const NODES: usize = 2_000_000;
    /// Descriptors this process needs for itself, its shares and requests under way.
    const RESERVED: usize = 1_024 + 256;

    /// Divides the number of descriptors this process may have.
    pub fn for_descriptors(available: usize) -> Self {
        let usable = available.saturating_sub(Self::RESERVED).max(64);
        let descriptors = (usable / 4).clamp(16, 16_384);
        Self {
            handles: (usable - descriptors).min(262_144),
            nodes: NodeLimits {
                nodes: Self::NODES,
                descriptors,
            },
        }
    }
}

/// The file system.
#[derive(Debug)]
pub struct ShareFs {
    shares: Arc<Shares>,
    rules: Arc<Rules>,
    nodes: Nodes,
    handles: Handles,
    side: Sidecar,
    proc: sys::Proc,
    user: u32,
}

/// Who asks, in the guest.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// File system user id.
    pub uid: u32,
    /// File system group id.
    pub gid: u32,
}

impl ShareFs {
    /// A file system of `shares`, which may be none yet.
    ///
    /// # Errors
    /// Where `/proc` is not mounted.
    pub fn new(
        shares: Arc<Shares>,
        rules: Arc<Rules>,
        side: Sidecar,
        limits: Limits,
    ) -> Result<Self, Errno> {
        Ok(Self {
            shares,
            rules,
            nodes: Nodes::new(limits.nodes),
            handles: Handles::new(limits.handles),
            side,
            proc: sys::Proc::open()?,
            user: rustix::process::geteuid().as_raw(),
        })
    }

    /// Forgets every inode and closes every file of the guest: a mount begins or has ended.
    pub fn forget_all(&self) {
        self.handles.clear();
        self.nodes.clear();
    }

    /// Closes every cached descriptor, as a long time with many files does.
    #[cfg(test)]
    pub fn forget_descriptors(&self) {
        while self.nodes.counts().1 > 0 {
            self.nodes.shed();
        }
    }

    /// Number of nodes, and of descriptors kept for them.
    #[cfg(test)]
    pub fn counts(&self) -> (usize, usize) {
        self.nodes.counts()
    }

    /// Runs `open`; where the host has no descriptor left, gives back half of the cached ones and tries once more.
    fn with_descriptor<T>(&self, open: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match open() {
            Err(Errno::MFILE | Errno::NFILE) => {
                self.nodes.shed();
                open().map_err(|e| if e == Errno::MFILE { Errno::NFILE } else { e })
            }
            other => other,
        }
    }
}

impl Observer for ShareFs {
    fn observe(&self, status: &mut Status) {
        let (nodes, descriptors) = self.nodes.counts();
        status.nodes = nodes as u64;
        status.cached_descriptors = descriptors as u64;
        status.open_handles = self.handles.count() as u64;
    }

    fn rights_changed(&self) {
        self.nodes.judge_again(&self.rules.read_only);
    }

    fn share_removed(&self, serial: u64) {
        self.handles.remove_share(serial);
        self.nodes.close_share(serial);
    }
}
