//! Descriptors that the runtime watches.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An owner of an open descriptor: its number stays the same and open as long as it lives.
pub(crate) trait Owns {
    /// The number.
    fn number(&self) -> RawFd;
}

impl Owns for OwnedFd {
    fn number(&self) -> RawFd {
        self.as_raw_fd()
    }
}

impl Owns for lighter_init::Events {
    fn number(&self) -> RawFd {
        self.as_raw_fd()
    }
}

impl Owns for lighter_runtime::OomWatch {
    fn number(&self) -> RawFd {
        std::os::fd::AsFd::as_fd(self).as_raw_fd()
    }
}

/// The owner, as tokio wants it.
#[derive(Debug)]
pub(crate) struct Watched<T>(pub(crate) T);

impl<T: Owns> AsRawFd for Watched<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.number()
    }
}

/// Has the runtime watch `owner`'s descriptor for `interest`.
#[expect(
    deprecated,
    reason = "its successor is `unsafe` for owners that may change their number; these do not"
)]
pub(crate) fn watch<T: Owns>(owner: T, interest: Interest) -> io::Result<AsyncFd<Watched<T>>> {
    AsyncFd::with_interest(Watched(owner), interest)
}
