//! What the device does with packets, sockets and wishes. Single-threaded; never blocks.

use std::{
    collections::{HashMap, VecDeque},
    io::ErrorKind,
    mem,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{event::epoll::EventFlags, net::Shutdown};

use super::{
    ConnectDone, ConnectError, Incoming,
    guest::{self, Memory, Pieces},
    host,
    packet::{HEADER_LEN, HOST_CID, Header, TYPE_STREAM, op, shut},
    ring::{BadRing, Ring},
    stream::{Key, State, Stream},
    table::{Id, Table},
};

/// Packets handled in one turn before sockets and commands are looked at again.
const BUDGET: usize = 256;
/// Guest buffers filled by one read; Linux offers about 4 KiB each.
const MAX_BATCH: usize = 16;
/// Refusals waiting for a buffer; more are dropped, as the guest that causes them takes none.
const MAX_RESETS: usize = 4096;
/// Credit of one stream while there are few.
const CREDIT_MAX: usize = 256 << 10;
/// Credit of one stream while there are very many.
const CREDIT_MIN: usize = 4 << 10;
/// What all credits together aim at.
const CREDIT_BUDGET: usize = 64 << 20;
/// A guest that does not answer a request within this is taken to be deaf.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The device without its thread.
pub struct Device {
    guest_cid: u64,
    epoll: OwnedFd,
    pub(super) memory: Option<Arc<Memory>>,
    pub(super) rings: [Option<Ring>; super::RINGS],
    broken: bool,
    streams: Table,
    listeners: HashMap<u32, Incoming>,
    /// Streams with something for the guest, in turn.
    due: VecDeque<Id>,
    /// Refusals for streams that do not exist.
    resets: VecDeque<Key>,
    /// Requests by age.
    connecting: VecDeque<(Instant, Id)>,
}

/// What one step of sending did.
enum Step {
    Sent(usize),
    NoBuffer,
    Nothing,
}

impl Device {
    /// A device without memory and rings; `epoll` is told about host sockets.
    pub fn new(guest_cid: u64, epoll: OwnedFd) -> Self {
        Self {
            guest_cid,
            epoll,
            memory: None,
            rings: [None, None],
            broken: false,
            streams: Table::default(),
            listeners: HashMap::new(),
            due: VecDeque::new(),
            resets: VecDeque::new(),
            connecting: VecDeque::new(),
        }
    }

    /// The epoll set of the sockets.
    pub fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// Whether packets can be exchanged.
    pub fn ready(&self) -> bool {
        !self.broken && self.memory.is_some() && self.rings.iter().all(Option::is_some)
    }

    /// Open streams, also those on their way in or out.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Joins a socket to a port of the guest.
    pub fn connect(&mut self, port: u32, socket: OwnedFd, done: ConnectDone) {
        if !self.ready() {
            return done(Err((ConnectError::NotReady, socket)));
        }
        if !self.streams.has_room() {
            return done(Err((ConnectError::TooManyStreams, socket)));
        }
        let key = Key {
            host: self.streams.free_port(port),
            guest: port,
        };
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let state = State::Connecting { done };
        let id = self.streams.insert(Stream::new(
            key,
            socket,
            state,
            op::REQUEST,
            self.credit_share(),
        ));
        self.connecting.push_back((deadline, id));
        self.settle(id);
    }

    /// Lets the guest connect to a port, or no longer.
    pub fn listen(&mut self, port: u32, incoming: Option<Incoming>) {
        match incoming {
            Some(incoming) => self.listeners.insert(port, incoming),
            None => self.listeners.remove(&port),
        };
    }

    /// Ends all streams, as the guest that had them is gone. What it had sent is still written out.
    pub fn forget_guest(&mut self) {
        for id in self.streams.ids() {
            self.guest_gone(id, ConnectError::Gone);
        }
        self.resets.clear();
        self.broken = false;
    }

    /// When [`Device::expire`] must be called next.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        while let Some((deadline, id)) = self.connecting.front() {
            match self.streams.get(*id).map(|stream| &stream.state) {
                Some(State::Connecting { .. }) => return Some(*deadline),
                _ => self.connecting.pop_front(),
            };
        }
        None
    }

    /// Gives requests up that got no answer.
    pub fn expire(&mut self, now: Instant) {
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            if let Some((_, id)) = self.connecting.pop_front() {
                self.refuse(id);
                self.guest_gone(id, ConnectError::Timeout);
            }
        }
    }

    /// A socket became readable, writable or ended.
    pub fn socket_event(&mut self, id: Id, flags: EventFlags) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
        {
            stream.readable = true;
        }
        if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            stream.hung_up = true;
        }
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            deafen(stream);
        }
        flush(stream);
        self.settle(id);
    }

    /// Exchanges packets with the guest; says whether there is more to do at once.
    pub fn pump(&mut self) -> bool {
        let Some(memory) = self.memory.clone() else {
            return false;
        };
        if !self.ready() {
            return false;
        }
        let from_guest = self.with_ring(super::RING_TX, |device, ring| {
            device.take_packets(ring, &memory)
        });
        let to_guest = self.with_ring(super::RING_RX, |device, ring| {
            device.give_packets(ring, &memory)
        });
        match (from_guest, to_guest) {
            (Ok(a), Ok(b)) => a || b,
            _ => {
                tracing::warn!("the guest broke a vsock ring: the device stops until it is reset");
                self.forget_guest();
                self.broken = true;
                false
            }
        }
    }

    fn with_ring(
        &mut self,
        index: usize,
        work: impl FnOnce(&mut Self, &mut Ring) -> Result<bool, BadRing>,
    ) -> Result<bool, BadRing> {
        let Some(mut ring) = self.rings[index].take() else {
            return Ok(false);
        };
        let result = work(self, &mut ring);
        self.rings[index] = Some(ring);
        result
    }

    // ---- guest to host

    fn take_packets(&mut self, ring: &mut Ring, memory: &Memory) -> Result<bool, BadRing> {
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
        }
        ring.notify(memory)?;
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
                stream.guest_shut |= header.flags & shut::BOTH;
                if stream.guest_shut == shut::BOTH {
                    // The guest's socket is closed and waits only for this answer.
                    self.refuse(id);
                    self.guest_gone(id, ConnectError::Refused);
                    return true;
                }
                if stream.guest_shut & shut::RECEIVE != 0
                    && let Some(socket) = &stream.host
                {
                    host::shut(socket.as_fd(), Shutdown::Read);
                }
                pass_half_close(stream);
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

    // ---- host to guest

    fn give_packets(&mut self, ring: &mut Ring, memory: &Memory) -> Result<bool, BadRing> {
        ring.disable_kicks(memory)?;
        let mut budget = BUDGET;
        while budget > 0 && !(self.resets.is_empty() && self.due.is_empty()) {
            match self.give_one(ring, memory)? {
                Step::Sent(n) => budget = budget.saturating_sub(n),
                Step::Nothing => {}
                // Only now is the doorbell of this ring of interest.
                Step::NoBuffer if ring.enable_kicks(memory)? => {}
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
        } else if stream.data_due() {
            give_payload(stream, self.guest_cid, ring, memory, slot)?
        } else {
            ring.put_back(1);
            Step::Nothing
        };
        self.settle(id);
        Ok(step)
    }

    // ---- the life of streams

    /// Brings a stream to the state its parts imply, and into the queue if it has something to say.
    fn settle(&mut self, id: Id) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        match stream.state {
            State::Open if stream.inward_over() && stream.outward_over() => {
                stream.our_shut = shut::BOTH;
                stream.state = State::Closing;
                stream.buffer = Default::default();
                if let Some(socket) = stream.host.take() {
                    host::close(&self.epoll, &socket);
                }
            }
            State::Draining if stream.buffer.waiting().is_empty() || stream.host_deaf => {
                return self.remove(id);
            }
            _ => {}
        }
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        if !stream.queued && stream.due() {
            stream.queued = true;
            self.due.push_back(id);
        }
    }

    /// The guest is done with a stream, or is taken to be.
    fn guest_gone(&mut self, id: Id, why: ConnectError) {
        self.streams.forget_name(id);
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        match mem::replace(&mut stream.state, State::Draining) {
            State::Connecting { done, .. } => {
                let socket = stream.host.take();
                self.remove(id);
                if let Some(socket) = socket {
                    done(Err((why, socket)));
                }
            }
            State::Open | State::Draining => {
                if let Some(socket) = &stream.host {
                    // Whoever writes at the other end learns that nobody listens.
                    host::shut(socket.as_fd(), Shutdown::Read);
                }
                self.settle(id);
            }
            State::Closing => self.remove(id),
        }
    }

    fn remove(&mut self, id: Id) {
        if let Some(socket) = self
            .streams
            .remove(id)
            .and_then(|mut stream| stream.host.take())
        {
            host::close(&self.epoll, &socket);
        }
    }

    fn refuse(&mut self, id: Id) {
        if let Some(key) = self.streams.get(id).map(|stream| stream.key) {
            self.push_reset(key);
        }
    }

    fn push_reset(&mut self, key: Key) {
        if self.resets.len() < MAX_RESETS {
            self.resets.push_back(key);
        }
    }

    fn watch(&mut self, id: Id) -> bool {
        let token = super::worker::token(id);
        let Some(stream) = self.streams.get(id) else {
            return false;
        };
        let Some(socket) = &stream.host else {
            return false;
        };
        host::watch(&self.epoll, socket.as_fd(), token).is_ok()
    }

    fn credit_share(&self) -> u32 {
        let share = CREDIT_BUDGET / (self.streams.len() + 1);
        // At most 256 KiB.
        share.clamp(CREDIT_MIN, CREDIT_MAX) as u32
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
        if let Ok(mut pieces) = Pieces::collect(memory, chain, true)
            && let Some(header) = pieces.split_off_front(HEADER_LEN)
            && pieces.len() > 0
        {
            return Ok(Some(Slot {
                head,
                header,
                payload: pieces,
            }));
        }
        // Too small for anything or malformed: back to the guest, unused.
        ring.push_used(memory, head, 0)?;
    }
    Ok(None)
}

/// Passes a payload on to the host's socket and keeps what that does not take.
fn take_payload(stream: &mut Stream, header: &Header, mut pieces: Pieces<'_>) -> bool {
    let len = header.len as usize;
    if len > pieces.len() || !stream.may_receive(len) || stream.guest_shut & shut::SEND != 0 {
        return false;
    }
    pieces.truncate(len);
    let socket = match &stream.host {
        Some(socket) if !stream.host_deaf => socket,
        // Nobody will read this; the guest is told so by a shutdown that is on its way.
        _ => {
            stream.count_forwarded(len);
            return true;
        }
    };
    let mut sent = 0;
    if stream.buffer.waiting().is_empty() && len > 0 {
        match guest::send(socket.as_fd(), &pieces) {
            Ok(n) => sent = n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => {
                deafen(stream);
                stream.count_forwarded(len);
                return true;
            }
        }
    }
    stream.count_forwarded(sent);
    drop(pieces.split_off_front(sent));
    if pieces.len() > 0 {
        pieces.append_to(stream.buffer.tail());
        // The socket may have become writable since; an edge that came before is not told again.
        flush(stream);
    }
    true
}

/// Reads from the host's socket straight into the guest's buffers.
fn give_payload(
    stream: &mut Stream,
    guest_cid: u64,
    ring: &mut Ring,
    memory: &Memory,
    first: Slot<'_>,
) -> Result<Step, BadRing> {
    let mut room = stream.credit();
    let mut slots = vec![first];
    let mut capacity = 0;
    let mut payloads = Vec::with_capacity(stream.batch);
    while let Some(slot) = slots.last_mut() {
        slot.payload.truncate(room);
        room -= slot.payload.len();
        capacity += slot.payload.len();
        payloads.push(mem::take(&mut slot.payload));
        if room == 0 || slots.len() >= stream.batch {
            break;
        }
        let Some(slot) = next_slot(ring, memory)? else {
            break;
        };
        slots.push(slot);
    }
    let Some(socket) = &stream.host else {
        return Ok(Step::Nothing);
    };
    let mut got = match guest::receive(socket.as_fd(), &payloads) {
        Ok(n) => n,
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            stream.readable = e.kind() == ErrorKind::Interrupted;
            ring.put_back(slots.len() as u16);
            return Ok(Step::Nothing);
        }
        Err(_) => {
            deafen(stream);
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
    let mut used = 0;
    let total = slots.len();
    stream.count_sent(got);
    for (slot, payload) in slots.into_iter().zip(&payloads) {
        if got == 0 {
            ring.put_back(1);
            continue;
        }
        let len = got.min(payload.len());
        let header = stream.with_credit(stream.key.header(guest_cid, op::RW));
        slot.fill(ring, memory, &header, len)?;
        got -= len;
        used += 1;
    }
    stream.batch = if used == total {
        (used * 2).min(MAX_BATCH)
    } else {
        used
    };
    Ok(Step::Sent(used))
}

/// Writes out what waits for the host's socket.
fn flush(stream: &mut Stream) {
    while let Some(socket) = &stream.host
        && !stream.buffer.waiting().is_empty()
    {
        match host::send(socket.as_fd(), stream.buffer.waiting()) {
            Ok(n) => {
                stream.buffer.consume(n);
                stream.count_forwarded(n);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(_) => deafen(stream),
        }
    }
    pass_half_close(stream);
}

/// Once the guest has sent its last byte and the socket has it, the socket's reader sees the end.
///
/// Only once: every shutdown of a socket is an event on it, and that event leads here.
fn pass_half_close(stream: &mut Stream) {
    if stream.guest_shut & shut::SEND != 0
        && !stream.host_told
        && stream.buffer.waiting().is_empty()
        && let Some(socket) = &stream.host
    {
        stream.host_told = true;
        host::shut(socket.as_fd(), Shutdown::Write);
    }
}

/// The socket takes nothing any more: what waits for it is void, and the guest is told to stop.
fn deafen(stream: &mut Stream) {
    let waiting = stream.buffer.waiting().len();
    stream.buffer.consume(waiting);
    stream.count_forwarded(waiting);
    stream.host_deaf = true;
    stream.our_shut |= shut::RECEIVE;
}
