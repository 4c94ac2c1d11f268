//! The walls of a container: namespaces, mounts, cgroup, devices, capabilities, seccomp.
//!
//! ```text
//!  engine (tokio, many threads)                      lighter-enter (one thread, static)
//!  Launcher::prepare ──clone3 into the cgroup,──►    mounts, pivot_root, masks, terminal
//!     │                new namespaces, child of init      │
//!  Prepared::start ──opens the gate────────────────► user, capabilities, seccomp, exec
//!     ◄──────────── exec happened / step and errno ───────┘
//! ```
//!
//! Called by: the engine ([`Launcher`], [`Cgroup`], [`mounts`], [`View`]) and by the program
//! `lighter-enter` ([`enter::main`]), which does inside the new namespaces what cannot be
//! done from a process with threads.
//! Calls: the kernel only.
//!
//! A container may have a user namespace of its own, which the engine makes ([`user_namespace`]):
//! `lighter-enter` is then born into it as its root, and what takes the machine's root (device
//! nodes, raising limits, the score of the out-of-memory killer) the launcher does from outside.
//!
//! Everything inside a container's root file system is reached by descriptor and
//! `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`; a path string is never resolved twice
//! and never outside the container's root. The crate never blocks for longer than the start
//! of a process takes, knows no engine object, and starts no thread that outlives a call.

pub mod caps;
mod cgroup;
pub mod defaults;
pub mod enter;
mod error;
mod launcher;
pub mod mounts;
pub mod seccomp;
mod spec;
mod sys;
mod user_namespace;
mod view;
mod wire;

pub use cgroup::{
    Cgroup, CgroupError, CgroupRoot, CpuStats, DeviceIo, ListenSignal, MemoryStats, NameRedirect,
    OomWatch, PidsStats, Stats, Warning,
};
pub use error::{FailureKind, Operation, StartError};
pub use launcher::{ContainerFds, ExecTarget, Launcher, LauncherConfig, Prepared, Stdio};
pub use spec::{
    BlkioThrottle, Capabilities, ContainerSpec, Device, DeviceAccess, DeviceKind, DeviceRule,
    ExecSpec, Mount, MountFlags, MountKind, Namespace, Namespaces, ProcessSpec, Propagation,
    Resources, Rlimit, RlimitResource, Seccomp, TerminalSize,
};
pub use sys::{quota, verity};
pub use user_namespace::{CONTAINER_IDS, IdRange, as_container_root, user_namespace};
pub use view::View;

/// Sends signal `number` (1 to 64, real-time ones included) to the process of `pidfd`.
///
/// # Errors
/// The kernel's answer: `ESRCH` when the process has ended.
pub fn signal(pidfd: std::os::fd::BorrowedFd<'_>, number: i32) -> rustix::io::Result<()> {
    sys::send_signal(pidfd, number)
}

/// How much of what was sent on a Unix socket its other end has not read. Not in bytes, but 1 or less
/// only once all is read.
///
/// # Errors
/// The kernel's answer: not a socket.
pub fn unread_by_peer(socket: std::os::fd::BorrowedFd<'_>) -> rustix::io::Result<u32> {
    sys::unread_by_peer(socket)
}
