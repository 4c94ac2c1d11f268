//! Virtio over memory-mapped registers (virtio 1.2, section 4.2), the transport of our own monitor.
//!
//! [`Bus`] is the window of guest addresses in which each device has a page; [`transport`] is the page.
//! Called by: the threads of the virtual CPUs, when the guest reads or writes there.
//! Doorbells and interrupts pass by: both are event descriptors that the kernel rings.

mod bus;
#[cfg(test)]
mod tests;
mod transport;

pub use bus::{Bus, PAGE};
pub use transport::{NOTIFY, Transport, TransportError};
