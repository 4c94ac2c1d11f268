//! Buffers in guest memory: descriptor chains as lists of slices, and system calls that read and
//! write them in place.
//!
//! The guest may change its memory at any time. So descriptors are copied out once, headers are
//! copied out once, and payload is only ever touched by the kernel or by volatile copies.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use virtio_queue::{DescriptorChain, desc::split::Descriptor};
use vm_memory::{GuestMemoryBackend, VolatileSlice};

use super::packet::HEADER_LEN;

pub use crate::ring::Memory;

/// The most pieces one packet may be in. Linux makes at most 2 + 17 (a socket buffer's fragments).
const MAX_PIECES: usize = 64;
/// The most bytes taken from one packet; Linux makes at most 64 KiB of payload.
const MAX_PACKET: usize = HEADER_LEN + (128 << 10);

/// A chain no driver would make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a descriptor chain is malformed")]
pub struct BadChain;

/// The readable or the writable part of a chain.
#[derive(Debug, Default)]
pub struct Pieces<'m> {
    slices: Vec<VolatileSlice<'m>>,
    len: usize,
}

impl<'m> Pieces<'m> {
    /// Collects a chain that must be wholly readable, or wholly writable.
    pub fn collect(
        memory: &'m Memory,
        chain: DescriptorChain<&'m Memory>,
        writable: bool,
    ) -> Result<Self, BadChain> {
        let mut pieces = Self::default();
        let mut complete = false;
        // Empty descriptors make no pieces, and an indirect table could hold 65,535 of them.
        for (at, descriptor) in chain.enumerate() {
            if at == MAX_PIECES {
                return Err(BadChain);
            }
            pieces.push(memory, descriptor, writable)?;
            complete = !descriptor.has_next();
        }
        // The iterator also ends at a descriptor that cannot be followed: that is no end of a chain.
        if complete { Ok(pieces) } else { Err(BadChain) }
    }

    fn push(
        &mut self,
        memory: &'m Memory,
        descriptor: Descriptor,
        writable: bool,
    ) -> Result<(), BadChain> {
        let len = descriptor.len() as usize;
        if descriptor.is_write_only() != writable || len > MAX_PACKET - self.len {
            return Err(BadChain);
        }
        for slice in GuestMemoryBackend::get_slices(memory, descriptor.addr(), len) {
            if self.slices.len() == MAX_PIECES {
                return Err(BadChain);
            }
            self.slices.push(slice.map_err(|_| BadChain)?);
        }
        self.len += len;
        Ok(())
    }

    /// Bytes in all pieces.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Cuts the first `n` bytes off and returns them; `None` if there are fewer.
    pub fn split_off_front(&mut self, n: usize) -> Option<Pieces<'m>> {
        if n > self.len {
            return None;
        }
        let mut front = Pieces {
            slices: Vec::with_capacity(1),
            len: n,
        };
        let mut missing = n;
        while missing > 0 {
            let first = self.slices.first().copied()?;
            if first.len() <= missing {
                missing -= first.len();
                front.slices.push(self.slices.remove(0));
            } else {
                front.slices.push(first.subslice(0, missing).ok()?);
                self.slices[0] = first.offset(missing).ok()?;
                missing = 0;
            }
        }
        self.len -= n;
        Some(front)
    }

    /// Cuts the end off, so that at most `n` bytes stay.
    pub fn truncate(&mut self, n: usize) {
        if let Some(front) = self.split_off_front(n.min(self.len)) {
            *self = front;
        }
    }

    /// Copies a header out.
    pub fn read_header(&mut self) -> Option<[u8; HEADER_LEN]> {
        let front = self.split_off_front(HEADER_LEN)?;
        let mut bytes = [0; HEADER_LEN];
        let mut at = 0;
        for slice in &front.slices {
            at += slice.copy_to(&mut bytes[at..]);
        }
        Some(bytes)
    }

    /// Whether the bytes begin so.
    pub fn starts_with<const N: usize>(&self, wanted: &[u8; N]) -> bool {
        let mut bytes = [0; N];
        let mut at = 0;
        for slice in &self.slices {
            let room = &mut bytes[at..];
            let n = slice.len().min(room.len());
            at += slice.copy_to(&mut room[..n]);
        }
        at == N && bytes == *wanted
    }

    /// Copies bytes in; the pieces are at least that long.
    pub fn write(&self, bytes: &[u8]) {
        let mut at = 0;
        for slice in &self.slices {
            let n = slice.len().min(bytes.len() - at);
            slice.copy_from(&bytes[at..at + n]);
            at += n;
        }
    }

    /// Appends all bytes to an ordinary buffer.
    pub fn append_to(&self, buffer: &mut Vec<u8>) {
        let mut at = buffer.len();
        buffer.resize(at + self.len, 0);
        for slice in &self.slices {
            at += slice.copy_to(&mut buffer[at..]);
        }
    }

    fn add_to(&self, vectors: &mut Vec<libc::iovec>) {
        vectors.extend(self.slices.iter().map(|slice| libc::iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        }));
    }
}

/// Sends from guest memory without blocking and without a signal when the other end is closed.
pub fn send(socket: BorrowedFd<'_>, pieces: &Pieces<'_>) -> io::Result<usize> {
    let mut vectors = Vec::with_capacity(pieces.slices.len());
    pieces.add_to(&mut vectors);
    let message = message(&mut vectors);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the vectors point into guest memory that stays mapped while `pieces` borrows it; the
    // kernel only reads there, and that the guest may write there meanwhile is the kernel's to
    // stand (no Rust reference to the bytes exists).
    check(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })
}

/// Receives into guest memory without blocking: one call fills many packets' buffers.
pub fn receive(socket: BorrowedFd<'_>, buffers: &[Pieces<'_>]) -> io::Result<usize> {
    let mut vectors = Vec::with_capacity(buffers.len());
    for pieces in buffers {
        pieces.add_to(&mut vectors);
    }
    vectors.truncate(libc::UIO_MAXIOV as usize);
    let mut message = message(&mut vectors);
    // SAFETY: as in `send`; the kernel writes only inside the slices, which are guest memory.
    check(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) })
}

fn message(vectors: &mut Vec<libc::iovec>) -> libc::msghdr {
    // SAFETY: a `msghdr` is plain numbers and pointers, for which all zero is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    message
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
