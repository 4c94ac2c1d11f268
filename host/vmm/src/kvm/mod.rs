//! Our own monitor on the Linux kernel's virtualisation, for x86-64.
//!
//! ```text
//!   kernel, initramfs ──► memory (a sealed file) ◄── shared with the processes behind remote devices
//!   vCPU threads: KVM_RUN ──► ports (serial, reset) and the mmio bus; all else is the kernel's
//!   doorbells and interrupts: event descriptors between guest, kernel and the devices' threads
//! ```
//!
//! Called by: the backend `kvm` of `lighter-machine`, in the machine process. Opens nothing by name: `/dev/kvm`,
//! kernel and disks come as open files.
//! The guest boots by the PVH entry of its uncompressed kernel, without firmware, ACPI or PCI; an MP table tells of
//! its processors, words on its command line of its devices.

mod boot;
mod cpuid;
mod error;
#[cfg(all(feature = "fuzz", not(test)))]
pub(crate) mod fuzz;
mod layout;
mod memory;
mod monitor;
mod mptable;
mod ports;
mod source;
mod vcpu;

pub use error::Error;
pub use memory::make as guest_memory;
pub use monitor::{Config, End, Monitor};
