//! Machines under Linux: the machine process, its client, and the backends.

mod channel;
mod client;
mod console;
mod machine;
mod qemu;
mod rundir;
mod sandbox;
mod wire;

pub use client::{GuestStream, Machine};
pub use machine::process_main;
pub use qemu::{Qemu, check_host};
