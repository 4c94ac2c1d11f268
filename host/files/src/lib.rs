//! The virtio-fs server: the one process that opens shared paths of the host.
//!
//! It serves a single device (tag [`TAG`]) whose root is made up: each share is a child of it, named by
//! the share's id, with a directory or file descriptor of its own and a read-only flag of its own. Shares
//! come and go at run time over the control socket; the descriptors are opened by the daemon and travel
//! with the message, so that this process never opens a path by its full name.
//!
//! Called by: the daemon, through [`FilesProcess`] (start, take over, add and remove shares); the command
//! `lighter files`, which is [`process_main`].
//! Must never: change its credentials, follow a symbolic link, open a host device, socket or FIFO, or
//! believe the guest about whether a share is read-only.
//!
//! How owners and modes are kept is told in `README.md` beside this crate.

pub mod control;

// The one place that chooses what the host system offers.
#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod sys;
#[cfg(not(target_os = "linux"))]
#[path = "absent/mod.rs"]
mod sys;

/// A connected socket, for the virtual machine's front end.
#[cfg(all(unix, not(target_os = "linux")))]
type Socket = std::os::fd::OwnedFd;
/// A connected socket, for the virtual machine's front end.
#[cfg(windows)]
type Socket = std::os::windows::io::OwnedHandle;

#[cfg(all(target_os = "linux", feature = "fuzz", not(test)))]
pub use sys::fuzz;
pub use sys::{FilesClient, FilesError, FilesProcess, SpawnConfig, process_main};

/// The virtio-fs tag that the guest mounts.
pub const TAG: &str = "lighter";

/// The name of the control socket in the run directory.
pub const CONTROL_SOCKET: &str = "files.sock";
