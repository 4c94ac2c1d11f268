//! Sockets between guest and host.
//!
//! A connected vsock behaves as any stream socket, so [`connect`] and [`accept`] give plain
//! descriptors; wrapped as a `UnixStream` they read, write and half-close as one.

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// `sockaddr_vm` is this long on every architecture.
const ADDRESS_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_vm>() as libc::socklen_t;

fn address(cid: u32, port: u32) -> libc::sockaddr_vm {
    // SAFETY: `sockaddr_vm` is integers only, for which zeros are a value.
    let mut address: libc::sockaddr_vm = unsafe { mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = cid;
    address.svm_port = port;
    address
}

fn socket(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let family = AddressFamily::from_raw(libc::AF_VSOCK as libc::sa_family_t);
    rustix::net::socket_with(
        family,
        SocketType::STREAM,
        flags | SocketFlags::CLOEXEC,
        None,
    )
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Listens on a port for any peer; not blocking.
pub fn listen(port: u32, backlog: i32) -> Result<OwnedFd, Errno> {
    let socket = socket(SocketFlags::NONBLOCK)?;
    let address = address(libc::VMADDR_CID_ANY, port);
    // SAFETY: `bind` reads `ADDRESS_LENGTH` bytes of a `sockaddr_vm` that lives until it returns.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            ADDRESS_LENGTH,
        )
    };
    if bound != 0 {
        return Err(last_error());
    }
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// Begins to connect to a port of the host (or another context id); not blocking. It is connected, or not, when it
/// can be written to.
pub fn connect(cid: u32, port: u32) -> Result<OwnedFd, Errno> {
    let socket = socket(SocketFlags::NONBLOCK)?;
    let address = address(cid, port);
    // SAFETY: `connect` reads `ADDRESS_LENGTH` bytes of a `sockaddr_vm` that lives until it
    // returns.
    let connected = unsafe {
        libc::connect(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            ADDRESS_LENGTH,
        )
    };
    match last_error() {
        _ if connected == 0 => Ok(socket),
        Errno::INPROGRESS => Ok(socket),
        errno => Err(errno),
    }
}

/// Who is at the other end of an accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A vsock peer with its context id and port.
    Vsock {
        /// The context id: 2 is the host.
        cid: u32,
        /// Its port.
        port: u32,
    },
    /// Any other kind of socket.
    Other,
}

/// Accepts one connection; the new socket is not blocking. Works for any stream listener.
///
/// `EAGAIN` where nobody waits.
pub fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, Peer), Errno> {
    // SAFETY: `sockaddr_storage` is integers only, for which zeros are a value.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `storage`, which is that large, and the
    // new length to `length`; both live until the call returns.
    let accepted = unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            (&raw mut storage).cast(),
            &raw mut length,
            libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
        )
    };
    if accepted < 0 {
        return Err(last_error());
    }
    // SAFETY: `accept4` succeeded: the descriptor is new and nobody else's.
    let accepted = unsafe { OwnedFd::from_raw_fd(accepted) };
    if storage.ss_family != libc::AF_VSOCK as libc::sa_family_t || length < ADDRESS_LENGTH {
        return Ok((accepted, Peer::Other));
    }
    // SAFETY: the family says that the kernel wrote a `sockaddr_vm`, the length that it is whole,
    // and `sockaddr_storage` is at least as large and as strictly aligned.
    let address = unsafe { (&raw const storage).cast::<libc::sockaddr_vm>().read() };
    Ok((
        accepted,
        Peer::Vsock {
            cid: address.svm_cid,
            port: address.svm_port,
        },
    ))
}
