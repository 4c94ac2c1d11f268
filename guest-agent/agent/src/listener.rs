//! Listeners out of init's store, as tokio and the API server want them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use lighter_init::vsock::{self, Peer};
use lighter_protocol::port::HOST_CID;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// A stream listener, vsock or Unix.
#[derive(Debug)]
pub struct Listener {
    /// Tokio's type for any stream socket; used only to wait until there is somebody to accept.
    socket: UnixStream,
    only_host: bool,
}

impl Listener {
    /// Listens on a descriptor that is listening already. With `only_host`, whoever is not the
    /// host is turned away.
    pub fn new(descriptor: OwnedFd, only_host: bool) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        let socket = UnixStream::from_std(StdUnixStream::from(descriptor))?;
        Ok(Self { socket, only_host })
    }

    /// The next connection. A vsock stream is a stream socket like any other: `UnixStream` reads,
    /// writes and half-closes it just as well.
    pub async fn next(&self) -> io::Result<UnixStream> {
        let accept = || Ok(vsock::accept(self.socket.as_fd())?);
        loop {
            let (stream, peer) = match self.socket.async_io(Interest::READABLE, accept).await {
                Ok(accepted) => accepted,
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(error),
            };
            if self.admits(peer) {
                return UnixStream::from_std(StdUnixStream::from(stream));
            }
            tracing::warn!(?peer, "a stranger is turned away");
        }
    }

    fn admits(&self, peer: Peer) -> bool {
        !self.only_host || matches!(peer, Peer::Vsock { cid: HOST_CID, .. })
    }
}

/// True where the peer has gone between knocking and being let in.
fn is_passing(error: &io::Error) -> bool {
    let passing = [
        Errno::CONNABORTED,
        Errno::CONNRESET,
        Errno::INTR,
        Errno::PROTO,
    ];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

impl lighter_api::Listener for Listener {
    async fn accept(&mut self) -> io::Result<UnixStream> {
        self.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_host_is_admitted_where_only_it_may_come() {
        let listener = |only_host| {
            let dir = tempfile::tempdir().unwrap();
            let bound = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
            Listener::new(bound.into(), only_host).unwrap()
        };
        let vsock = |cid| Peer::Vsock { cid, port: 1024 };
        let closed = listener(true);
        assert!(closed.admits(vsock(HOST_CID)));
        // Everybody, the hypervisor, the machine itself by its loopback and by its own id.
        for peer in [vsock(u32::MAX), vsock(0), vsock(1), vsock(3), Peer::Other] {
            assert!(!closed.admits(peer), "{peer:?}");
        }
        assert!(listener(false).admits(Peer::Other));
    }
}
