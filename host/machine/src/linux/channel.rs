//! Packets with descriptors beside them, over a SOCK_SEQPACKET socket under tokio.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{Interest, unix::AsyncFd};

use super::wire::{MAX_FDS, MAX_PACKET};
use crate::Error;

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    fd: AsyncFd<OwnedFd>,
    /// Where packets arrive; one reader at a time.
    buffer: tokio::sync::Mutex<Box<[u8]>>,
}

impl Channel {
    /// Takes a connected SOCK_SEQPACKET socket; must be called inside a tokio runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let buffer = vec![0; MAX_PACKET].into_boxed_slice();
        Ok(Self {
            fd: watch(fd)?,
            buffer: tokio::sync::Mutex::new(buffer),
        })
    }

    /// Sends one message; waits while the other end's buffer is full.
    pub async fn send<T: Serialize>(
        &self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        let bytes = serde_json::to_vec(message).map_err(|e| Error::Wire(e.to_string()))?;
        if bytes.len() > MAX_PACKET || fds.len() > MAX_FDS {
            return Err(Error::Wire(format!(
                "message of {} bytes, {} descriptors",
                bytes.len(),
                fds.len()
            )));
        }
        let sent = self
            .fd
            .async_io(Interest::WRITABLE, |fd| {
                send_packet(fd.as_fd(), &bytes, fds)
            })
            .await;
        sent.map_err(|_| Error::Gone)
    }

    /// Receives one message; `None` once the other end is closed.
    pub async fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>, Error> {
        let mut bytes = self.buffer.lock().await;
        let got = self
            .fd
            .async_io(Interest::READABLE, |fd| {
                receive_packet(fd.as_fd(), &mut bytes)
            })
            .await;
        // A reset means the same as an end: the other process is gone.
        let Ok((length, fds)) = got else {
            return Ok(None);
        };
        if length == 0 {
            return Ok(None);
        }
        let message =
            serde_json::from_slice(&bytes[..length]).map_err(|e| Error::Wire(e.to_string()))?;
        Ok(Some((message, fds)))
    }
}

/// Registers a socket with the runtime; it never blocks from now on.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    // SAFETY: `register` requires a descriptor that stays open and the same while it is
    // watched; an `OwnedFd` owned by the `AsyncFd` is that.
    unsafe { AsyncFd::register(fd) }.map_err(|e| io::Error::other(e.to_string()))
}

fn send_packet(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?;
    Ok(())
}

fn receive_packet(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    // Descriptors this process has no room for are left out by the kernel, which says CTRUNC. The
    // message stands all the same: whoever handles it sees that it came without.
    if got.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::other("packet longer than allowed"));
    }
    Ok((got.bytes, fds))
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[tokio::test]
    async fn message_and_descriptor_arrive_and_end_is_told() {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let (a, b) = (Channel::new(a).unwrap(), Channel::new(b).unwrap());
        let (given, kept) = io::pipe().unwrap();
        a.send(&"hello", &[given.as_fd()]).await.unwrap();
        drop((given, a));
        let (text, fds) = b.receive::<String>().await.unwrap().unwrap();
        assert_eq!((text.as_str(), fds.len()), ("hello", 1));
        rustix::io::write(&kept, b"x").unwrap();
        assert_eq!(rustix::io::read(&fds[0], &mut [0; 4]).unwrap(), 1);
        assert!(b.receive::<String>().await.unwrap().is_none());
    }
}
