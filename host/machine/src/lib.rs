//! The virtual machine all containers share, seen from the host.
//!
//! ```text
//!   daemon ── Machine (this crate's client) ──seqpacket──► machine process ──► Hypervisor/Vm ──► guest
//! ```
//!
//! Called by: the daemon, through [`Machine`]; the command `lighter machine`, through
//! [`process_main`], which is the machine process itself.
//! Calls: a backend (one folder each) and, on Linux, the devices of `lighter-vmm`.
//!
//! [`VmSpec`] is plain data and compiles everywhere; only a backend folder talks to the platform.
//! The machine process outlives the daemon: the next one finds it by its lock and takes it over.
//! Nothing here understands a container, an image or a request: streams are bytes.

mod backend;
mod error;
mod exit;
mod launch;
mod secret;
mod spec;
mod status;

// The one place that chooses what the host system offers.
#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod sys;
#[cfg(not(target_os = "linux"))]
#[path = "absent/mod.rs"]
mod sys;

/// The name of the machine process's socket in the run directory.
pub const SOCKET: &str = "machine.sock";

pub use backend::{
    Accelerator, Capabilities, ConnectDone, Hypervisor, Incoming, Observation, Ready, Vm, VmParts,
};
pub use error::{Error, HandOverError};
pub use exit::ExitReason;
pub use launch::{ClientStream, LaunchConfig};
pub use secret::Secret;
pub use spec::{Backend, DeviceNetwork, DeviceShare, Disk, VmSpec};
pub use status::{HostCheck, Status};
pub use sys::{GuestStream, Machine, check_host, process_main};

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use sys::Kvm;
#[cfg(target_os = "linux")]
pub use sys::Qemu;
