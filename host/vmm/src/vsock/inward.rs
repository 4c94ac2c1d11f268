//! Packets from the guest: each is read once, checked, and brings its stream one step on.

use std::{
    io::ErrorKind,
    mem,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::net::Shutdown;

use crate::ring::{BadRing, Ring};

use super::{
    ConnectError,
    device::{BUDGET, Device},
    guest::{self, Memory, Pieces},
    host,
    packet::{HOST_CID, Header, TYPE_STREAM, op, shut},
    stream::{Key, State, Stream},
    table::Id,
    upgrade,
};

/// How long the guest waits at most for the return of buffers it does not need yet.
const LAZY: Duration = Duration::from_millis(5);

impl Device {
    pub(super) fn take_packets(
        &mut self,
        ring: &mut Ring,
        memory: &Memory,
    ) -> Result<bool, BadRing> {
        ring.disable_kicks(memory)?;
        let mut budget = BUDGET;
        loop {
            while budget > 0
                && let Some(chain) = ring.pop(memory)?
            {
                budget -= 1;
                let head = chain.head_index();
                // A malformed packet is dropped; its buffers go back all the same.
                if let Ok(pieces) = Pieces::collect(memory, chain, false) {
                    self.take_packet(pieces);
                }
                ring.push_used(memory, head, 0)?;
            }
            if budget == 0 || !ring.enable_kicks(memory)? {
                break;
            }
            // A look that finds nothing counts as well: the guest may take back what it made available.
            budget -= 1;
        }
        // The guest needs these buffers back only when it runs short of them. Telling it at once
        // would double the interrupts of every question and answer.
        if ring.much_unsignalled() {
            ring.notify(memory)?;
            self.lazy_signal = None;
        } else if ring.unsignalled() > 0 && self.lazy_signal.is_none() {
            self.lazy_signal = Some(Instant::now() + LAZY);
        }
        Ok(budget == 0)
    }

    fn take_packet(&mut self, mut pieces: Pieces<'_>) {
        let Some(header) = pieces.read_header().map(|bytes| Header::decode(&bytes)) else {
            return;
        };
        if header.src_cid != self.guest_cid || header.dst_cid != HOST_CID {
            return;
        }
        let key = Key {
            host: header.dst_port,
            guest: header.src_port,
        };
        let known = self.streams.find(key);
        match (known, header.op) {
            (None, op::RST) => {}
            (Some(id), op::RST) => self.guest_gone(id, ConnectError::Refused),
            (known, op::REQUEST) if header.kind == TYPE_STREAM => {
                self.take_request(key, known, &header);
            }
            (None, _) => self.push_reset(key),
            (Some(id), _) => {
                if !self.take_stream_packet(id, &header, pieces) {
                    self.refuse(id);
                    self.guest_gone(id, ConnectError::Refused);
                }
            }
        }
    }

    fn take_request(&mut self, key: Key, known: Option<Id>, header: &Header) {
        // The guest's port is in use again, so the stream that had it is over for the guest.
        if let Some(id) = known {
            self.guest_gone(id, ConnectError::Refused);
        }
        let room = self.streams.has_room();
        let socket = self
            .listeners
            .get_mut(&key.host)
            .filter(|_| room)
            .and_then(|accept| accept(key.host));
        let Some(socket) = socket else {
            return self.push_reset(key);
        };
        let credit = self.credit_share();
        let mut stream = Stream::new(key, socket, State::Open, op::RESPONSE, credit);
        stream.take_credit(header);
        let id = self.streams.insert(stream);
        if self.watch(id) {
            self.settle(id);
        } else {
            self.refuse(id);
            self.guest_gone(id, ConnectError::BadSocket);
        }
    }

    /// Handles a packet of a known stream; `false` is a breach of the rules by the guest.
    fn take_stream_packet(&mut self, id: Id, header: &Header, pieces: Pieces<'_>) -> bool {
        let Some(stream) = self.streams.get(id) else {
            return true;
        };
        if header.kind != TYPE_STREAM {
            return false;
        }
        stream.take_credit(header);
        let connecting = matches!(stream.state, State::Connecting { .. });
        match header.op {
            op::RESPONSE if connecting => return self.opened(id),
            op::RW if !connecting => {
                if !take_payload(stream, header, pieces) {
                    return false;
                }
            }
            op::SHUTDOWN if !connecting => {
                let guest_shut = stream.guest_shut | header.flags & shut::BOTH;
                if guest_shut == shut::BOTH {
                    // The guest's socket is closed and waits only for this answer.
                    self.refuse(id);
                    self.guest_gone(id, ConnectError::Refused);
                    return true;
                }
                stream.guest_shut = guest_shut;
                if stream.guest_shut & shut::RECEIVE != 0
                    && let Some(socket) = &stream.host
                {
                    host::shut(socket.as_fd(), Shutdown::Read);
                }
                stream.pass_half_close();
            }
            op::CREDIT_UPDATE => {}
            op::CREDIT_REQUEST => stream.pending.credit = true,
            _ => return false,
        }
        self.settle(id);
        true
    }

    fn opened(&mut self, id: Id) -> bool {
        if !self.watch(id) {
            self.refuse(id);
            self.guest_gone(id, ConnectError::BadSocket);
            return true;
        }
        let Some(stream) = self.streams.get(id) else {
            return true;
        };
        if let State::Connecting { done, .. } = mem::replace(&mut stream.state, State::Open) {
            done(Ok(()));
        }
        self.settle(id);
        true
    }
}

/// Passes a payload on to the host's socket and keeps what that does not take.
fn take_payload(stream: &mut Stream, header: &Header, mut pieces: Pieces<'_>) -> bool {
    let len = header.len as usize;
    if len > pieces.len() || !stream.may_receive(len) || stream.guest_shut & shut::SEND != 0 {
        return false;
    }
    pieces.truncate(len);
    let held_back = stream.holds_back();
    let socket = match &stream.host {
        Some(socket) if !stream.host_deaf => socket,
        // Nobody will read this; the guest is told so by a shutdown that is on its way.
        _ => {
            stream.count_forwarded(len);
            return true;
        }
    };
    let mut sent = 0;
    if stream.buffer.waiting().is_empty() && len > 0 && !held_back {
        match guest::send(socket.as_fd(), &pieces) {
            Ok(n) => {
                sent = n;
                stream.after_head = n == len && upgrade::is_head(&pieces, socket.as_fd());
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => {
                stream.deafen();
                stream.count_forwarded(len);
                return true;
            }
        }
    }
    stream.count_forwarded(sent);
    drop(pieces.split_off_front(sent));
    if pieces.len() > 0 {
        pieces.append_to(stream.buffer.tail(pieces.len()));
        // The socket may have become writable since; an edge that came before is not told again.
        stream.flush();
    }
    true
}
