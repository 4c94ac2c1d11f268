//! One stream between a socket of the host and a socket in the guest.
//!
//! ```text
//!   Connecting ──RESPONSE──► Open ──both directions over──► Closing ──RST──► (gone)
//!       │ RST, timeout         │ guest closed or reset
//!       ▼                      ▼
//!     (gone)                Draining ──buffer written out──► (gone)
//! ```
//!
//! Guest to host: what the socket does not take at once waits in `buffer`, never more than the
//! credit we gave. Host to guest: nothing is read from the socket before the guest has room for it,
//! so back-pressure reaches the host's writer by itself. What the guest is to read before all of that waits in
//! `first`.
//! A stream in Draining has no name any more: the guest is done with it and may use its port again.
//!
//! A guest ends its bytes by SHUTDOWN with SEND. Linux says so at shutdown(2) alone; at a close before that it says
//! SEND and RECEIVE at once: the stream is broken off, and a host's socket of TCP is reset. The other way round a host's
//! socket that was reset is told by RECEIVE before the guest has ended its bytes.

use std::{
    io::ErrorKind,
    num::Wrapping,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::Shutdown;

use super::{
    ConnectDone, host,
    packet::{HOST_CID, Header, TYPE_STREAM, op, shut},
    upgrade,
};

/// The two ports by which a stream is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The host's port.
    pub host: u32,
    /// The guest's port.
    pub guest: u32,
}

impl Key {
    /// A header from the host to the guest on this stream.
    pub fn header(self, guest_cid: u64, op: u16) -> Header {
        Header {
            src_cid: HOST_CID,
            dst_cid: guest_cid,
            src_port: self.host,
            dst_port: self.guest,
            kind: TYPE_STREAM,
            op,
            ..Header::default()
        }
    }
}

/// Where a stream is in its life.
pub enum State {
    /// The guest was asked and has not answered.
    Connecting {
        /// Told the outcome.
        done: ConnectDone,
    },
    /// Bytes flow.
    Open,
    /// Both directions are over; the guest was told and will answer with RST.
    Closing,
    /// The guest is done; only `buffer` is still to be written out.
    Draining,
}

/// A packet that is to be sent to the guest as soon as it offers a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// The request or the response that opens the stream.
    pub open: Option<u16>,
    /// New credit.
    pub credit: bool,
}

/// Bytes that somebody has not taken yet.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// With these bytes in it.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }

    /// The bytes that wait.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Where `n` new bytes are put. What is written out makes room first, and no more memory is taken
    /// than what waits needs: there may be thousands of these.
    pub fn tail(&mut self, n: usize) -> &mut Vec<u8> {
        if self.bytes.capacity() - self.bytes.len() < n {
            self.bytes.drain(..self.start);
            self.start = 0;
            self.bytes.reserve_exact(n);
        }
        &mut self.bytes
    }

    /// Memory it holds.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Forgets the first `n` bytes. An empty buffer holds no memory.
    pub fn consume(&mut self, n: usize) {
        self.start += n;
        if self.start >= self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// One stream.
pub struct Stream {
    /// Its name.
    pub key: Key,
    /// Where it is in its life.
    pub state: State,
    /// The host's socket; gone once both directions are over.
    pub host: Option<OwnedFd>,
    /// Whether it stands in the queue of streams that have something for the guest.
    pub queued: bool,
    /// Packets without payload that are due.
    pub pending: Pending,

    /// Guest to host: bytes the socket did not take.
    pub buffer: Buffer,
    /// Credit given to the guest.
    pub buf_alloc: u32,
    /// Bytes passed on to the socket.
    pub forwarded: Wrapping<u32>,
    /// `forwarded` as the guest was last told.
    told_forwarded: Wrapping<u32>,
    /// The last bytes passed on were the head of an upgrade.
    pub after_head: bool,
    /// The host's socket takes nothing any more.
    pub host_deaf: bool,
    /// The host's socket was told that no more will come.
    pub host_told: bool,

    /// Host to guest: what comes before the first byte of the socket.
    pub first: Buffer,
    /// The guest's buffer, and what it took out of it.
    peer_alloc: u32,
    peer_forwarded: Wrapping<u32>,
    /// Bytes sent to the guest.
    sent: Wrapping<u32>,
    /// The socket may have bytes for us.
    pub readable: bool,
    /// The socket's other end will send no more: read on until the end is seen.
    pub hung_up: bool,
    /// How many of the guest's buffers to fill with one call.
    pub batch: usize,

    /// What the guest said it no longer does.
    pub guest_shut: u32,
    /// The guest left without having ended its bytes: whoever reads them is to know.
    pub broken_off: bool,
    /// What we are to tell that we no longer do.
    pub our_shut: u32,
    /// What of it was told.
    told_shut: u32,
}

impl Stream {
    /// A stream that is not open yet; `open` is the packet that is due first.
    pub fn new(key: Key, host: OwnedFd, state: State, open: u16, buf_alloc: u32) -> Self {
        Self {
            key,
            state,
            host: Some(host),
            queued: false,
            pending: Pending {
                open: Some(open),
                credit: false,
            },
            buffer: Buffer::default(),
            buf_alloc,
            forwarded: Wrapping(0),
            told_forwarded: Wrapping(0),
            after_head: false,
            host_deaf: false,
            host_told: false,
            first: Buffer::default(),
            peer_alloc: 0,
            peer_forwarded: Wrapping(0),
            sent: Wrapping(0),
            readable: false,
            hung_up: false,
            batch: 1,
            guest_shut: 0,
            broken_off: false,
            our_shut: 0,
            told_shut: 0,
        }
    }

    /// Takes the credit fields of a packet from the guest.
    pub fn take_credit(&mut self, header: &Header) {
        self.peer_alloc = header.buf_alloc;
        self.peer_forwarded = Wrapping(header.fwd_cnt);
    }

    /// How many bytes the guest has room for. A guest that counts wrongly gets nothing.
    pub fn credit(&self) -> usize {
        let in_flight = (self.sent - self.peer_forwarded).0;
        self.peer_alloc.saturating_sub(in_flight) as usize
    }

    /// Whether a payload of that length is within the credit the guest was given.
    pub fn may_receive(&self, len: usize) -> bool {
        len <= (self.buf_alloc as usize).saturating_sub(self.buffer.waiting().len())
    }

    /// Counts bytes passed on to the host. A quarter of the credit is told at once, so that the
    /// guest never stands still while there is room.
    pub fn count_forwarded(&mut self, n: usize) {
        // `n` is at most the credit, which is a u32.
        self.forwarded += Wrapping(n as u32);
        if (self.forwarded - self.told_forwarded).0 >= self.buf_alloc / 4 {
            self.pending.credit = true;
        }
    }

    /// Counts bytes sent to the guest.
    pub fn count_sent(&mut self, n: usize) {
        self.sent += Wrapping(n as u32);
    }

    /// Whether payload could be had from the host and sent now.
    pub fn data_due(&self) -> bool {
        matches!(self.state, State::Open)
            && (self.readable || !self.first.waiting().is_empty())
            && self.pending.open.is_none()
            && self.our_shut & shut::SEND == 0
            && self.guest_shut & shut::RECEIVE == 0
            && self.credit() > 0
    }

    /// Whether anything is due for the guest.
    pub fn due(&self) -> bool {
        self.control_due() || self.data_due()
    }

    fn control_due(&self) -> bool {
        match self.state {
            State::Draining => false,
            _ => self.pending.open.is_some() || self.pending.credit || self.shutdown_due(),
        }
    }

    fn shutdown_due(&self) -> bool {
        !matches!(self.state, State::Connecting { .. }) && self.our_shut & !self.told_shut != 0
    }

    /// Takes the next packet without payload, if one is due.
    pub fn next_control(&mut self, guest_cid: u64) -> Option<Header> {
        if matches!(self.state, State::Draining) {
            return None;
        }
        let header = if let Some(open) = self.pending.open.take() {
            self.key.header(guest_cid, open)
        } else if self.shutdown_due() {
            self.told_shut = self.our_shut;
            Header {
                flags: self.our_shut,
                ..self.key.header(guest_cid, op::SHUTDOWN)
            }
        } else if self.pending.credit {
            self.key.header(guest_cid, op::CREDIT_UPDATE)
        } else {
            return None;
        };
        Some(self.with_credit(header))
    }

    /// Fills the credit fields in; every packet carries them.
    pub fn with_credit(&mut self, header: Header) -> Header {
        self.pending.credit = false;
        self.told_forwarded = self.forwarded;
        Header {
            buf_alloc: self.buf_alloc,
            fwd_cnt: self.forwarded.0,
            ..header
        }
    }

    /// Whether nothing can come from the guest any more, and all that came is written out.
    pub fn inward_over(&self) -> bool {
        self.host_deaf || (self.guest_shut & shut::SEND != 0 && self.buffer.waiting().is_empty())
    }

    /// Whether nothing can go to the guest any more.
    pub fn outward_over(&self) -> bool {
        self.our_shut & shut::SEND != 0 || self.guest_shut & shut::RECEIVE != 0
    }

    /// Whether bytes have to wait until the client has read the head before them.
    pub fn holds_back(&mut self) -> bool {
        // Nearly always there was no head: that costs no call.
        if self.after_head {
            let socket = self.host.as_ref();
            self.after_head = socket.is_some_and(|socket| !upgrade::is_read(socket.as_fd()));
        }
        self.after_head
    }

    /// Writes out what waits for the host's socket.
    pub fn flush(&mut self) {
        if self.holds_back() {
            return;
        }
        while let Some(socket) = &self.host
            && !self.buffer.waiting().is_empty()
        {
            match host::send(socket.as_fd(), self.buffer.waiting()) {
                Ok(n) => {
                    self.buffer.consume(n);
                    self.count_forwarded(n);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.deafen(),
            }
        }
        self.pass_half_close();
    }

    /// Once the guest has sent its last byte and the socket has it, the socket's reader sees the end.
    ///
    /// Only once: every shutdown of a socket is an event on it, and that event leads here.
    pub fn pass_half_close(&mut self) {
        if self.guest_shut & shut::SEND != 0
            && !self.host_told
            && self.buffer.waiting().is_empty()
            && let Some(socket) = &self.host
        {
            self.host_told = true;
            host::shut(socket.as_fd(), Shutdown::Write);
        }
    }

    /// The socket takes nothing any more: what waits for it is void, and the guest is told to stop.
    pub fn deafen(&mut self) {
        let waiting = self.buffer.waiting().len();
        self.buffer.consume(waiting);
        self.count_forwarded(waiting);
        self.host_deaf = true;
        self.our_shut |= shut::RECEIVE;
    }
}
