//! The messages between the host and the guest.
