//! One JSON message and its descriptors in one packet of a `SOCK_SEQPACKET` socket.
//!
//! Called by both ends of the control socket. Nothing larger than [`MAX_PACKET`] and no more than
//! [`MAX_DESCRIPTORS`] is ever taken from a peer.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::control::MAX_PACKET;

/// Most descriptors that travel with one message.
pub const MAX_DESCRIPTORS: usize = 3;

/// A message could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The socket failed.
    #[error("control socket")]
    Socket(#[from] Errno),
    /// The peer closed its end.
    #[error("the other end of the control socket is gone")]
    Closed,
    /// Longer than [`MAX_PACKET`], or with more than [`MAX_DESCRIPTORS`].
    #[error("control message too long")]
    TooLong,
    /// Not a message of the expected type.
    #[error("not a control message")]
    Malformed(#[from] serde_json::Error),
}

/// Sends `message` and `descriptors` as one packet.
pub fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), PacketError> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_PACKET || descriptors.len() > MAX_DESCRIPTORS {
        return Err(PacketError::TooLong);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(PacketError::TooLong);
    }
    loop {
        match sendmsg(
            &socket,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        ) {
            Err(Errno::INTR) => {}
            Err(Errno::PIPE) => return Err(PacketError::Closed),
            other => return other.map(drop).map_err(PacketError::from),
        }
    }
}

/// Receives one packet; blocks unless the socket does not.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> Result<(T, Vec<OwnedFd>), PacketError> {
    let mut bytes = vec![0; MAX_PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    // Collected before anything can fail, so that refused descriptors are closed and not leaked.
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(PacketError::TooLong);
    }
    if received.bytes == 0 {
        return Err(PacketError::Closed);
    }
    Ok((
        serde_json::from_slice(&bytes[..received.bytes])?,
        descriptors,
    ))
}
