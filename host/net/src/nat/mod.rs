//! The network that the guest sees: a router that is really this process, with sockets of the host behind it.
//!
//! ```text
//!   frame of the guest ─► frame ─┬─ neighbours   who has which address
//!                                ├─ tcp          connections, each ended here
//!                                ├─ udp          datagrams, a socket a pair of ends
//!                                └─ icmp         echo, and word of what was not delivered
//!   event of a socket  ─► the one it belongs to ─► frames to the guest
//! ```
//!
//! Called by the device, on one thread: [`Nat::receive`] for each frame, [`Nat::stirred`] for each event,
//! [`Nat::flush`] when there are no more of either. Portable: it knows neither rings nor virtio.
//! Must never: open a socket to what [`plan`] refuses, or keep more for a guest than its limits.

mod frame;
#[cfg(all(feature = "fuzz", not(test)))]
pub mod fuzz;
mod holders;
mod icmp;
mod limits;
mod mapping;
mod names;
mod neighbours;
mod pieces;
pub mod plan;
mod questions;
mod ring;
mod tcp;
#[cfg(test)]
mod tests;
mod timers;
mod udp;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Poll, Registry};
use smoltcp::wire::IpProtocol;

use frame::{Datagram, Incoming};
pub use frame::{Offload, Outgoing, Wire};
pub use limits::Limits;
use pieces::Pieces;
use plan::Plan;
use tcp::Around;
use timers::{Timers, Token};

/// Which protocol a token's flow is of: its lowest bits.
const KINDS: usize = 4;
const TCP: usize = 0;
const UDP: usize = 1;
const ICMP: usize = 2;

/// How much is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections.
    pub tcp: usize,
    /// Pairs of ends that send datagrams.
    pub udp: usize,
    /// Echo requests' senders.
    pub icmp: usize,
}

/// The router.
#[derive(Debug)]
pub struct Nat {
    base: Base,
    tcp: tcp::Tcp,
    udp: udp::Udp,
    icmp: icmp::Icmp,
    pieces: Pieces,
    last: Token,
}

/// What is the same for all protocols.
#[derive(Debug)]
struct Base {
    plan: Plan,
    registry: Registry,
    timers: Timers,
}

impl Base {
    fn around<'a>(&'a mut self, wire: &'a mut dyn Wire, now: Instant) -> Around<'a> {
        Around {
            wire,
            plan: &self.plan,
            registry: &self.registry,
            timers: &mut self.timers,
            now,
        }
    }
}

impl Nat {
    /// One whose sockets are waited for by `poll`, with so much under way and no more.
    ///
    /// # Errors
    ///
    /// When the system does not give a descriptor.
    pub fn new(plan: Plan, limits: Limits, poll: &Poll) -> std::io::Result<Self> {
        Ok(Self {
            base: Base {
                plan,
                registry: poll.registry().try_clone()?,
                timers: Timers::default(),
            },
            tcp: tcp::Tcp::new(limits.tcp, limits.connecting),
            udp: udp::Udp::new(limits.udp, limits.questions),
            icmp: icmp::Icmp::new(limits.icmp),
            pieces: Pieces::default(),
            last: 0,
        })
    }

    /// Says where the host asks for names now, in its order.
    pub fn set_names(&mut self, servers: Vec<SocketAddr>) {
        self.udp.questions.set_servers(servers);
    }

    /// How much is under way.
    pub fn counts(&self) -> Counts {
        Counts {
            tcp: self.tcp.len(),
            udp: self.udp.len(),
            icmp: self.icmp.len(),
        }
    }

    /// A frame of the guest.
    pub fn receive(&mut self, frame: &[u8], wire: &mut dyn Wire, now: Instant) {
        match Incoming::parse(frame) {
            Incoming::Arp(payload) => neighbours::arp(payload, &self.base.plan, wire),
            Incoming::Ip(datagram) => self.receive_datagram(&datagram, wire, now),
            Incoming::Piece(piece) => {
                let whole = self.pieces.take(&piece, now);
                if let Some(datagram) = whole.as_deref().and_then(frame::datagram) {
                    self.receive_datagram(&datagram, wire, now);
                }
            }
            Incoming::Other => {}
        }
    }

    fn receive_datagram(&mut self, datagram: &Datagram<'_>, wire: &mut dyn Wire, now: Instant) {
        let from = datagram.source;
        if self.base.plan.is_ours(from) || from.is_multicast() || from.is_loopback() {
            return;
        }
        self.last += 1;
        let of = |kind| self.last * KINDS + kind;
        let (tcp, udp, icmp) = (of(TCP), of(UDP), of(ICMP));
        let names = self.udp.questions.server();
        let mut around = self.base.around(wire, now);
        match datagram.protocol {
            IpProtocol::Tcp => self.tcp.receive(datagram, &mut around, tcp, names),
            IpProtocol::Udp => self.udp.receive(datagram, &mut around, udp),
            IpProtocol::Icmpv6 if neighbours::discovery(datagram, around.plan, around.wire) => {}
            IpProtocol::Icmp | IpProtocol::Icmpv6 => {
                self.icmp.receive(datagram, &mut around, icmp);
            }
            _ => {}
        }
    }

    /// A socket has something new.
    pub fn stirred(&mut self, event: &Event, wire: &mut dyn Wire, now: Instant) {
        let token = event.token().0;
        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
        let writable = event.is_writable() || event.is_write_closed() || event.is_error();
        let mut around = self.base.around(wire, now);
        match token % KINDS {
            TCP => self.tcp.stirred(token, readable, writable, &mut around),
            UDP => self.udp.stirred(token, &mut around),
            _ => self.icmp.stirred(token, &mut around),
        }
    }

    /// Does what is due and sends what is owed. To be called after frames and events, after the guest made room for frames
    /// (`refilled`: datagrams that wait for it are tried again), and when the time is over that it says: none is due before.
    /// No time at all means that there is more to do once others had their turn.
    pub fn flush(&mut self, refilled: bool, wire: &mut dyn Wire, now: Instant) -> Option<Duration> {
        let mut around = self.base.around(wire, now);
        while let Some(token) = around.timers.due(now) {
            match token % KINDS {
                TCP => self.tcp.waited(token, &mut around),
                UDP => self.udp.waited(token, &mut around),
                _ => self.icmp.waited(token, &mut around),
            }
        }
        if refilled {
            self.udp.refill(&mut around);
        }
        self.tcp.flush(&mut around);
        if self.udp.flush(&mut around) {
            return Some(Duration::ZERO);
        }
        self.base
            .timers
            .next()
            .map(|at| at.saturating_duration_since(now))
    }
}
