//! Machines under Linux: the machine process, its client, and the backends.

mod accelerator;
mod channel;
mod choice;
mod client;
mod cmdline;
mod console;
mod ended;
#[cfg(target_arch = "x86_64")]
mod kvm;
mod machine;
mod qemu;
mod roles;
mod rundir;
mod sandbox;
mod streams;
mod wire;

pub use choice::check_host;
pub use client::{GuestStream, Machine};
#[cfg(target_arch = "x86_64")]
pub use kvm::Kvm;
pub use machine::process_main;
pub use qemu::Qemu;
