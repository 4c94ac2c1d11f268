//! The device: its streams' life, and the turns in which it looks at sockets and rings.
//!
//! Single-threaded; never blocks. Packets from the guest are in [`super::inward`], packets to it in
//! [`super::outward`].

use std::{
    collections::{HashMap, VecDeque},
    mem,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{event::epoll::EventFlags, net::Shutdown};

use crate::device::Trouble;
use crate::ring::{BadRing, Ring};
use crate::said::Said;

use super::{
    ConnectDone, ConnectError, Incoming,
    guest::Memory,
    host,
    packet::{op, shut},
    stream::{Buffer, Key, State, Stream},
    table::{Id, Table},
};

/// Packets handled in one turn before sockets and commands are looked at again.
pub(super) const BUDGET: usize = 256;
/// Refusals waiting for a buffer; more are dropped, as the guest that causes them takes none.
const MAX_RESETS: usize = 4096;
/// Places of streams that are gone, kept in the queue at most beside those of streams.
const MAX_STALE: usize = 512;
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
    pub(super) guest_cid: u64,
    epoll: OwnedFd,
    pub(super) memory: Option<Arc<Memory>>,
    pub(super) rings: [Option<Ring>; super::RINGS],
    broken: bool,
    /// Where to say so, on a transport that can tell the guest.
    pub(super) trouble: Option<Trouble>,
    said: Said,
    pub(super) streams: Table,
    pub(super) listeners: HashMap<u32, Incoming>,
    /// Streams with something for the guest, in turn.
    pub(super) due: VecDeque<Id>,
    /// Refusals for streams that do not exist.
    pub(super) resets: VecDeque<Key>,
    /// Requests by age.
    connecting: VecDeque<(Instant, Id)>,
    /// When the guest is told at the latest that packets were taken.
    pub(super) lazy_signal: Option<Instant>,
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
            trouble: None,
            said: Said::default(),
            streams: Table::default(),
            listeners: HashMap::new(),
            due: VecDeque::new(),
            resets: VecDeque::new(),
            connecting: VecDeque::new(),
            lazy_signal: None,
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

    /// Joins a socket to a port of the guest, which gets `first` before anything of the socket's.
    pub fn connect(&mut self, port: u32, first: Vec<u8>, socket: OwnedFd, done: ConnectDone) {
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
        let mut stream = Stream::new(key, socket, state, op::REQUEST, self.credit_share());
        stream.first = Buffer::of(first);
        let id = self.streams.insert(stream);
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
        [self.next_timeout(), self.lazy_signal]
            .into_iter()
            .flatten()
            .min()
    }

    fn next_timeout(&mut self) -> Option<Instant> {
        while let Some((deadline, id)) = self.connecting.front() {
            match self.streams.get(*id).map(|stream| &stream.state) {
                Some(State::Connecting { .. }) => return Some(*deadline),
                _ => self.connecting.pop_front(),
            };
        }
        None
    }

    /// Gives requests up that got no answer, and tells the guest what it was not told yet.
    pub fn expire(&mut self, now: Instant) {
        while self.next_timeout().is_some_and(|deadline| deadline <= now) {
            if let Some((_, id)) = self.connecting.pop_front() {
                self.refuse(id);
                self.guest_gone(id, ConnectError::Timeout);
            }
        }
        if self.lazy_signal.is_some_and(|at| at <= now) {
            self.lazy_signal = None;
            if let (Some(memory), Some(ring)) = (&self.memory, &mut self.rings[super::RING_TX]) {
                // A ring that is broken is found so by the next turn.
                _ = ring.notify(memory);
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
            stream.deafen();
        }
        stream.flush();
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
                self.break_down();
                false
            }
        }
    }

    /// The guest broke the rules: all streams end, and nothing of it is touched until it has reset the device.
    fn break_down(&mut self) {
        self.forget_guest();
        self.lazy_signal = None;
        self.broken = true;
        match &self.trouble {
            Some(trouble) => trouble.report("a vsock ring is malformed"),
            None if self.said.first() => {
                tracing::warn!("the guest broke a vsock ring: the device stops until it is reset");
            }
            None => {}
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

    /// Brings a stream to the state its parts imply, and into the queue if it has something to say.
    pub(super) fn settle(&mut self, id: Id) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        match stream.state {
            State::Open if stream.inward_over() && stream.outward_over() => {
                stream.our_shut = shut::BOTH;
                stream.state = State::Closing;
                stream.buffer = Buffer::default();
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
        self.forget_stale_places();
    }

    /// A stream that goes leaves its place in the queue behind. Such places go when a buffer comes,
    /// and a guest that offers none must not make them pile up.
    fn forget_stale_places(&mut self) {
        if self.due.len() > 2 * self.streams.len() + MAX_STALE {
            let streams = &mut self.streams;
            self.due.retain(|id| streams.get(*id).is_some());
        }
    }

    /// The guest is done with a stream, or is taken to be.
    pub(super) fn guest_gone(&mut self, id: Id, why: ConnectError) {
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
                stream.broken_off = stream.guest_shut & shut::SEND == 0;
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
        let Some(mut stream) = self.streams.remove(id) else {
            return;
        };
        match stream.host.take() {
            Some(socket) if stream.broken_off => host::break_off(&self.epoll, &socket),
            Some(socket) => host::close(&self.epoll, &socket),
            None => {}
        }
    }

    pub(super) fn refuse(&mut self, id: Id) {
        if let Some(key) = self.streams.get(id).map(|stream| stream.key) {
            self.push_reset(key);
        }
    }

    pub(super) fn push_reset(&mut self, key: Key) {
        if self.resets.len() < MAX_RESETS {
            self.resets.push_back(key);
        }
    }

    pub(super) fn watch(&mut self, id: Id) -> bool {
        let token = super::worker::token(id);
        let Some(stream) = self.streams.get(id) else {
            return false;
        };
        let Some(socket) = &stream.host else {
            return false;
        };
        host::watch(&self.epoll, socket.as_fd(), token).is_ok()
    }

    pub(super) fn credit_share(&self) -> u32 {
        let share = CREDIT_BUDGET / (self.streams.len() + 1);
        // At most 256 KiB.
        share.clamp(CREDIT_MIN, CREDIT_MAX) as u32
    }
}
