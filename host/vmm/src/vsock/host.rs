//! The host's end of a stream: a connected stream socket that came from somebody else.
//!
//! Whether the socket blocks is nobody's business here: every call says "do not wait" for itself,
//! since the open file may be shared with the process it came from.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::epoll,
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, ipproto, sockopt},
};

/// Most bytes thrown away at a close; a socket's receive buffer is rarely larger.
const DISCARD_LIMIT: usize = 4 << 20;

/// Watches a socket for good: edge-triggered, so that no later call is needed to disarm it.
pub fn watch(epoll: &OwnedFd, socket: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    use epoll::EventFlags as E;
    let flags = E::IN | E::OUT | E::RDHUP | E::ET;
    Ok(epoll::add(
        epoll,
        socket,
        epoll::EventData::new_u64(token),
        flags,
    )?)
}

/// Sends without waiting.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(
        socket,
        bytes,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    )?)
}

/// Passes a half-close of the guest on.
pub fn shut(socket: BorrowedFd<'_>, how: Shutdown) {
    // Fails only when the other end is gone already.
    _ = rustix::net::shutdown(socket, how);
}

/// Prepares the socket for its close, so that its peer sees the end of the stream after the last byte.
///
/// Bytes from the peer that nobody read are taken out first: a close over them would reset the
/// connection, and the peer would lose what it has not read itself.
pub fn close(epoll: &OwnedFd, socket: &OwnedFd) {
    // The open file may live on in another process, and its registration with it.
    _ = epoll::delete(epoll, socket);
    shut(socket.as_fd(), Shutdown::Both);
    let mut discarded = 0;
    let mut bytes = [0; 16 << 10];
    while discarded < DISCARD_LIMIT {
        match rustix::net::recv(socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((n, _)) if n > 0 => discarded += n,
            Err(Errno::INTR) => {}
            _ => break,
        }
    }
}

/// Prepares the socket for its close, so that its peer sees that the stream was broken off, where it can see that.
///
/// A reset takes what the system has not sent yet with it: a peer that is behind gets all of it, and an end.
pub fn break_off(epoll: &OwnedFd, socket: &OwnedFd) {
    let is_tcp = sockopt::socket_protocol(socket) == Ok(Some(ipproto::TCP));
    if !is_tcp
        || unsent(socket.as_fd()) != Some(0)
        || sockopt::set_socket_linger(socket, Some(Duration::ZERO)).is_err()
    {
        return close(epoll, socket);
    }
    // The open file may live on in another process, and its registration with it.
    _ = epoll::delete(epoll, socket);
}

/// How many bytes the peer's system has not got yet.
fn unsent(socket: BorrowedFd<'_>) -> Option<libc::c_int> {
    let mut unsent: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the kernel writes one `int` to where the pointer leads (tcp(7), SIOCOUTQ,
    // which is the same number as TIOCOUTQ).
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unsent) };
    (result == 0).then_some(unsent)
}
