//! The head of an HTTP upgrade goes to the client alone.
//!
//! There are clients that read the head through a buffer and go on with the bare socket (docker-py,
//! for exec and attach): what of the stream came together with the head is lost to them. So the bytes
//! behind such a head wait until the client has read it. Linux tells of that by an edge: a byte read
//! makes room in the sender's buffer.
//!
//! Called by `stream` and `inward`; must never hold back anything else.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::net::{AddressFamily, sockopt};

use super::guest::Pieces;

/// How the head of an upgrade begins; the engine sends each head as one packet.
const HEAD: &[u8; 13] = b"HTTP/1.1 101 ";

/// Whether what follows these bytes has to wait. Only Unix sockets tell of every read.
pub fn is_head(payload: &Pieces<'_>, socket: BorrowedFd<'_>) -> bool {
    payload.starts_with(HEAD) && sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
}

/// Whether the other end has read all that was sent.
///
/// A socket that cannot say so is not waited for.
pub fn is_read(socket: BorrowedFd<'_>) -> bool {
    let mut unread: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the call writes one `int` to where it is told.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    // While it tells of the last bytes that were read, the kernel still counts one.
    result != 0 || unread <= 1
}
