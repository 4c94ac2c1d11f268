//! Virtual devices of our own, under Linux.
//!
//! [`vsock`] is the virtio-vsock device itself, which knows rings in guest memory and stream
//! sockets of the host; [`vhost_user`] attaches a device to a monitor that speaks vhost-user (QEMU).
//!
//! Called by: the backends of `lighter-machine`; the network's process, for its card.
//! The guest is hostile: every number it gives is checked once, where it is read, and nothing here
//! may panic, block or allocate by such a number.

// Rings and stream descriptors are Linux's; elsewhere the platform's own vsock is used.
#![cfg(target_os = "linux")]

pub mod balloon;
pub mod blk;
pub mod console;
pub mod device;
// Not beside the unit tests, which have a guest of their own.
#[cfg(all(feature = "fuzz", not(test)))]
pub mod fuzz;
#[cfg(target_arch = "x86_64")]
pub mod kvm;
pub mod mmio;
mod patience;
#[cfg(any(test, feature = "fuzz"))]
mod played;
pub mod remote;
pub mod ring;
pub mod rng;
mod roles;
mod said;
pub mod service;
// Begins new devices; no machine has it.
#[cfg(test)]
mod template;
pub mod vhost_user;
pub mod vsock;
