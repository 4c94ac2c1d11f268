//! Virtio over memory-mapped registers (virtio 1.2, section 4.2), the transport of our own monitor.
//!
//! [`Bus`] is the window of guest addresses in which each device has a page; [`transport`] is the page.
//! What the guest reads there is memory of its own: [`page`]. Called by: the threads of the virtual CPUs, when it writes.
//! Doorbells and interrupts pass by: both are event descriptors that the kernel rings.

mod bus;
mod page;
#[cfg(test)]
mod tests;
mod transport;

pub use bus::Bus;
pub use page::{PAGE, Page, Pages};
pub use transport::{ACKNOWLEDGE, NOTIFY, Transport, TransportError};
