//! The virtio-vsock device: streams between sockets of the host and sockets in the guest.
//!
//! ```text
//!   backend ── Vsock (connect, listen) ──┐
//!                                        ├─commands─► one thread: epoll over the two doorbells and
//!   transport ── Transport (rings) ──────┘            every host socket ──► rings in guest memory
//! ```
//!
//! The device owns its rings and streams alone; everything else sends it commands. It knows nothing
//! of the transport: `vhost_user` gives it memory, rings and event descriptors, a virtio-mmio front
//! would give the same.
//!
//! Rules it keeps: nothing is read from a host socket before the guest has room (back-pressure);
//! a stream's buffer exists only while the host's end is slower than the guest; a half-close on one
//! side is a half-close on the other; streams take turns; the guest can connect only to ports
//! somebody listens on.

mod device;
// Not beside the unit tests, whose guest it borrows.
#[cfg(all(feature = "fuzz", not(test)))]
pub mod fuzz;
mod guest;
mod host;
mod inward;
mod outward;
mod packet;
mod stream;
mod table;
mod upgrade;
mod worker;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;

pub use crate::ring::BadRing;
pub use guest::Memory;
pub use packet::HOST_CID;
pub use table::MAX_STREAMS;
pub use worker::{Transport, Vsock};

/// The context id our guests have. There is one guest to a device, so any number would do.
pub const GUEST_CID: u64 = 3;
/// Rings that this device serves; the event ring is the monitor's.
pub const RINGS: usize = 2;
/// The ring with buffers for packets to the guest.
pub const RING_RX: usize = 0;
/// The ring with packets from the guest.
pub const RING_TX: usize = 1;

/// Why a stream was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The guest's driver is not up.
    #[error("the guest's vsock driver is not up")]
    NotReady,
    /// The guest answered that nothing listens there.
    #[error("the guest refused the connection")]
    Refused,
    /// [`MAX_STREAMS`] are open.
    #[error("too many streams are open")]
    TooManyStreams,
    /// The guest did not answer.
    #[error("the guest did not answer")]
    Timeout,
    /// The device or the guest ended.
    #[error("the guest is gone")]
    Gone,
    /// The descriptor is not a stream socket, or the system is out of resources.
    #[error("the host's socket cannot be watched")]
    BadSocket,
}

/// Called once with the outcome of a connect, from the device's thread: it must not block. On
/// failure the socket comes back, unread.
pub type ConnectDone = Box<dyn FnOnce(Result<(), (ConnectError, OwnedFd)>) + Send>;

/// Asked for a socket when the guest connects to that port, from the device's thread: it must not
/// block. `None` refuses.
pub type Incoming = Box<dyn FnMut(u32) -> Option<OwnedFd> + Send>;
