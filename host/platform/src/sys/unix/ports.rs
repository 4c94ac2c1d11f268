//! Listening for others on Linux and macOS: what differs there from other systems.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Whether a server that was ended a moment ago may listen on its port again while its last
/// connections fade.
pub const LISTENERS_REUSE_ADDRESSES: bool = true;

/// Takes a connection out of the runtime, to be given away.
///
/// # Errors
/// What the system answers.
pub fn tcp_into_owned(stream: tokio::net::TcpStream) -> io::Result<OwnedFd> {
    stream.into_std().map(OwnedFd::from)
}

/// Closes a connection so that its other end sees that it was broken off.
pub fn reset_tcp(stream: OwnedFd) {
    // One that is over already has nobody to tell.
    let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    drop(stream);
}

/// Bounds what the system keeps of bytes written to a stream that its other end does not read; it takes
/// about twice as much memory for them.
///
/// # Errors
/// What the system answers.
pub fn limit_unread(stream: &impl AsFd, bytes: usize) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_send_buffer_size(
        stream, bytes,
    )?)
}

/// Whether the system has no addresses of that kind at all, as one without IPv6.
#[must_use]
pub fn is_family_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

/// How many descriptors this process may have open.
#[must_use]
pub fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}
