//! Listening for others on Windows: what differs there from other systems.

use std::io;
use std::os::windows::io::{AsHandle, OwnedHandle};

/// Whether a server that was ended a moment ago may listen on its port again while its last
/// connections fade: here it may anyway, and the flag of that name lets anybody listen on anybody's.
pub const LISTENERS_REUSE_ADDRESSES: bool = false;

/// "An address incompatible with the requested protocol was used": WSAEAFNOSUPPORT.
const NO_SUCH_FAMILY: i32 = 10047;

/// Takes a connection out of the runtime, to be given away.
///
/// # Errors
/// Always `Unsupported`: there is no machine yet to give it to.
pub fn tcp_into_owned(_stream: tokio::net::TcpStream) -> io::Result<OwnedHandle> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Closes a connection that was to be given away.
pub fn reset_tcp(stream: OwnedHandle) {
    drop(stream);
}

/// Bounds what the system keeps of bytes written to a stream that its other end does not read: a pipe has
/// the bound it was made with.
///
/// # Errors
/// None on this system.
pub fn limit_unread(_stream: &impl AsHandle, _bytes: usize) -> io::Result<()> {
    Ok(())
}

/// Whether the system has no addresses of that kind at all, as one without IPv6.
#[must_use]
pub fn is_family_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(NO_SUCH_FAMILY)
}

/// How many handles this process may have open: as many as there is memory for.
#[must_use]
pub fn descriptor_limit() -> usize {
    usize::MAX
}
