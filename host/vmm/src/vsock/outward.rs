//! Packets to the guest: streams take turns, and payload is read from their sockets straight into
//! the guest's buffers.

use std::{io::ErrorKind, mem, os::fd::AsFd};

use virtio_queue::DescriptorChain;

use crate::ring::{BadRing, Ring};

use super::{
    device::{BUDGET, Device},
    guest::{self, Memory, Pieces},
    packet::{HEADER_LEN, Header, op, shut},
    stream::Stream,
};

/// Guest buffers filled by one read; Linux offers about 4 KiB each.
const MAX_BATCH: usize = 16;

/// What one step of sending did.
enum Step {
    Sent(usize),
    NoBuffer,
    Nothing,
}

impl Device {
    pub(super) fn give_packets(
        &mut self,
        ring: &mut Ring,
        memory: &Memory,
    ) -> Result<bool, BadRing> {
        ring.disable_kicks(memory)?;
        let mut budget = BUDGET;
        // Buffers that are none count, too.
        ring.begin_turn(BUDGET as u16);
        while budget > 0 && !(self.resets.is_empty() && self.due.is_empty()) {
            match self.give_one(ring, memory)? {
                Step::Sent(n) => budget = budget.saturating_sub(n),
                Step::Nothing => {}
                Step::NoBuffer if ring.turn_is_over() => budget = 0,
                // Only now is the doorbell of this ring of interest.
                Step::NoBuffer if ring.enable_kicks(memory)? => budget -= 1,
                Step::NoBuffer => break,
            }
        }
        ring.notify(memory)?;
        Ok(budget == 0)
    }

    fn give_one(&mut self, ring: &mut Ring, memory: &Memory) -> Result<Step, BadRing> {
        let Some(slot) = next_slot(ring, memory)? else {
            return Ok(Step::NoBuffer);
        };
        if let Some(key) = self.resets.pop_front() {
            slot.fill(ring, memory, &key.header(self.guest_cid, op::RST), 0)?;
            return Ok(Step::Sent(1));
        }
        let Some(id) = self.due.pop_front() else {
            ring.put_back(1);
            return Ok(Step::Nothing);
        };
        let Some(stream) = self.streams.get(id) else {
            ring.put_back(1);
            return Ok(Step::Nothing);
        };
        stream.queued = false;
        let step = if let Some(header) = stream.next_control(self.guest_cid) {
            slot.fill(ring, memory, &header, 0)?;
            Step::Sent(1)
        } else if stream.data_due() && !stream.first.waiting().is_empty() {
            give_first(stream, self.guest_cid, ring, memory, slot)?
        } else if stream.data_due() {
            give_payload(stream, self.guest_cid, ring, memory, slot)?
        } else {
            ring.put_back(1);
            Step::Nothing
        };
        self.settle(id);
        Ok(step)
    }
}

/// A buffer of the guest for one packet.
struct Slot<'m> {
    head: u16,
    header: Pieces<'m>,
    payload: Pieces<'m>,
}

impl Slot<'_> {
    /// Writes a packet of which `len` bytes of payload are in place already.
    fn fill(
        self,
        ring: &mut Ring,
        memory: &Memory,
        header: &Header,
        len: usize,
    ) -> Result<(), BadRing> {
        // A slot's payload is bounded by `Pieces`.
        let header = Header {
            len: len as u32,
            ..*header
        };
        self.header.write(&header.encode());
        ring.push_used(memory, self.head, (HEADER_LEN + len) as u32)
    }
}

fn next_slot<'m>(ring: &mut Ring, memory: &'m Memory) -> Result<Option<Slot<'m>>, BadRing> {
    while let Some(chain) = ring.pop(memory)? {
        let head = chain.head_index();
        if let Some(slot) = slot(chain, memory) {
            return Ok(Some(slot));
        }
        // Too small for anything or malformed: back to the guest, unused.
        ring.push_used(memory, head, 0)?;
    }
    Ok(None)
}

/// One more for a batch. One that is none stays where it is: given back between those of a batch, it would be counted as
/// one of theirs when they are put back.
fn another_slot<'m>(ring: &mut Ring, memory: &'m Memory) -> Result<Option<Slot<'m>>, BadRing> {
    let Some(chain) = ring.pop(memory)? else {
        return Ok(None);
    };
    let slot = slot(chain, memory);
    if slot.is_none() {
        ring.put_back(1);
    }
    Ok(slot)
}

/// The buffer of a chain, if a packet fits into it.
fn slot<'m>(chain: DescriptorChain<&'m Memory>, memory: &'m Memory) -> Option<Slot<'m>> {
    let head = chain.head_index();
    let mut pieces = Pieces::collect(memory, chain, true).ok()?;
    let header = pieces.split_off_front(HEADER_LEN)?;
    (pieces.len() > 0).then_some(Slot {
        head,
        header,
        payload: pieces,
    })
}

/// Sends what comes before the socket's own bytes, as much as one of the guest's buffers takes.
fn give_first(
    stream: &mut Stream,
    guest_cid: u64,
    ring: &mut Ring,
    memory: &Memory,
    slot: Slot<'_>,
) -> Result<Step, BadRing> {
    let room = slot.payload.len().min(stream.credit());
    let bytes = stream.first.waiting();
    let len = bytes.len().min(room);
    slot.payload.write(&bytes[..len]);
    stream.first.consume(len);
    stream.count_sent(len);
    let header = stream.with_credit(stream.key.header(guest_cid, op::RW));
    slot.fill(ring, memory, &header, len)?;
    Ok(Step::Sent(1))
}

/// Reads from the host's socket straight into the guest's buffers.
fn give_payload(
    stream: &mut Stream,
    guest_cid: u64,
    ring: &mut Ring,
    memory: &Memory,
    first: Slot<'_>,
) -> Result<Step, BadRing> {
    let Some(socket) = &stream.host else {
        ring.put_back(1);
        return Ok(Step::Nothing);
    };
    let (slots, payloads) = gather(stream, ring, memory, first)?;
    let capacity = payloads.iter().map(Pieces::len).sum();
    let got = match guest::receive(socket.as_fd(), &payloads) {
        Ok(n) => n,
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            stream.readable = e.kind() == ErrorKind::Interrupted;
            ring.put_back(slots.len() as u16);
            return Ok(Step::Nothing);
        }
        Err(_) => {
            stream.deafen();
            0
        }
    };
    if got == 0 {
        stream.readable = false;
        stream.our_shut |= shut::SEND;
        ring.put_back(slots.len() as u16);
        return Ok(Step::Nothing);
    }
    if got < capacity && !stream.hung_up {
        // The socket is empty; the next byte is told by an edge.
        stream.readable = false;
    }
    stream.count_sent(got);
    let total = slots.len();
    let mut left = got;
    let mut used = 0;
    for (slot, payload) in slots.into_iter().zip(&payloads) {
        if left == 0 {
            ring.put_back(1);
            continue;
        }
        let len = left.min(payload.len());
        let header = stream.with_credit(stream.key.header(guest_cid, op::RW));
        slot.fill(ring, memory, &header, len)?;
        left -= len;
        used += 1;
    }
    // A stream that fills its buffers gets more of them next time.
    stream.batch = if used == total {
        (used * 2).min(MAX_BATCH)
    } else {
        used
    };
    Ok(Step::Sent(used))
}

/// Takes as many of the guest's buffers as the stream's batch and credit allow.
fn gather<'m>(
    stream: &Stream,
    ring: &mut Ring,
    memory: &'m Memory,
    first: Slot<'m>,
) -> Result<(Vec<Slot<'m>>, Vec<Pieces<'m>>), BadRing> {
    let mut room = stream.credit();
    let mut slots = Vec::with_capacity(stream.batch);
    let mut payloads = Vec::with_capacity(stream.batch);
    let mut next = Some(first);
    while let Some(mut slot) = next {
        slot.payload.truncate(room);
        room -= slot.payload.len();
        payloads.push(mem::take(&mut slot.payload));
        slots.push(slot);
        next = if room > 0 && slots.len() < stream.batch {
            another_slot(ring, memory)?
        } else {
            None
        };
    }
    Ok((slots, payloads))
}
