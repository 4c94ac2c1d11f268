//! Datagrams of the guest: a socket of the host for each pair of ends, as long as it is used.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mio::net::UdpSocket;
use smoltcp::wire::{IpProtocol, UdpPacket};

use super::frame::{self, Datagram, ETHERNET, LONGEST_HEAD, Offload, Outgoing, Wire};
use super::icmp::{self, Unreachable};
use super::mapping::{Mappings, Pair};
use super::names;
use super::plan::{NAMES, Plan, Target};
use super::questions::Questions;
use super::tcp::Around;
use super::timers::Token;

/// How long one is kept that is not used: RFC 4787, section 4.3, asks for two minutes at least.
const IDLE: Duration = Duration::from_secs(120);
/// The same for questions about names, which are of one answer.
const IDLE_NAMES: Duration = Duration::from_secs(15);
/// Datagrams that one socket delivers before the others have their turn.
const TURN: usize = 32;
/// The longest datagram's content that fits into one packet to the guest.
const ONE_PACKET: usize = 1_500 - 20 - 8;
/// The longest content there is.
const LONGEST: usize = 65_535 - 28;

/// Who sends to whom, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The guest's.
    pub guest: SocketAddr,
    /// The other.
    pub remote: SocketAddr,
}

impl Pair for Ends {
    fn source(&self) -> IpAddr {
        self.guest.ip()
    }
}

/// All of them.
#[derive(Debug)]
pub struct Udp {
    mappings: Mappings<Ends>,
    /// For names that others know.
    pub(super) questions: Questions,
    /// Sockets whose datagrams wait for room at the guest.
    pub(super) waiting: BTreeSet<Token>,
    /// Sockets with more to read, for which it is others' turn.
    turns: BTreeSet<Token>,
    buffer: Box<[u8]>,
    ident: u16,
}

impl Udp {
    /// None yet, and `most` at a time, with `questions` for names beside them.
    pub fn new(most: usize, questions: usize) -> Self {
        Self {
            mappings: Mappings::new(most),
            questions: Questions::new(questions),
            waiting: BTreeSet::new(),
            turns: BTreeSet::new(),
            buffer: vec![0; LONGEST].into_boxed_slice(),
            ident: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.mappings.len() + self.questions.len()
    }

    /// A datagram of the guest.
    pub fn receive(&mut self, datagram: &Datagram<'_>, around: &mut Around<'_>, token: Token) {
        let Some(packet) = frame::udp(datagram) else {
            return;
        };
        let [guest, remote] = frame::ends(datagram, packet.src_port(), packet.dst_port());
        let ends = Ends { guest, remote };
        if around.plan.target(remote) == Target::Names {
            return self.receive_question(ends, packet.payload(), datagram, around, token);
        }
        let Some(target) = around.plan.destination(remote, None) else {
            // Nobody is told about what was for many.
            if !datagram.destination.is_multicast() && !is_broadcast(datagram) {
                icmp::unreachable(datagram, Unreachable::Prohibited, around.plan, around.wire);
            }
            return;
        };
        if !self.mappings.has(&ends)
            && let Err(error) = self.begin(ends, target, around, token)
        {
            let why = Unreachable::of(&error).unwrap_or(Unreachable::Host);
            icmp::unreachable(datagram, why, around.plan, around.wire);
            return;
        }
        let Some(mapping) = self.mappings.of(&ends, around) else {
            return;
        };
        if let Err(error) = mapping.socket.send(packet.payload())
            && let Some(why) = Unreachable::of(&error)
        {
            icmp::unreachable(datagram, why, around.plan, around.wire);
            // That was what an earlier one met, and this one was not sent.
            let _ = mapping.socket.send(packet.payload());
        }
        // A network that is full drops datagrams, and so do we.
    }

    fn receive_question(
        &mut self,
        ends: Ends,
        message: &[u8],
        datagram: &Datagram<'_>,
        around: &mut Around<'_>,
        token: Token,
    ) {
        if let Some(answer) = names::answer(message, around.plan) {
            self.ident = self.ident.wrapping_add(1);
            // Without room at the guest it is lost, as on any network: it asks again.
            deliver(&ends, &answer, self.ident, around.plan, around.wire);
        } else if !self.questions.receive(ends, message, around, token) {
            icmp::unreachable(datagram, Unreachable::Prohibited, around.plan, around.wire);
        }
    }

    fn begin(
        &mut self,
        ends: Ends,
        target: SocketAddr,
        around: &mut Around<'_>,
        token: Token,
    ) -> io::Result<()> {
        let socket = joined(UdpSocket::bind(any(target))?, target)?;
        self.mappings
            .begin(ends, socket, idle(&ends), around, token)
    }

    /// A socket has datagrams.
    pub fn stirred(&mut self, token: Token, around: &mut Around<'_>) {
        if self.questions.has(token) {
            return self.questions.stirred(token, around, &mut self.buffer);
        }
        let Some(mapping) = self.mappings.stirred(token, around.now) else {
            return;
        };
        self.waiting.remove(&token);
        self.turns.remove(&token);
        for _ in 0..TURN {
            let length = match mapping.socket.peek(&mut self.buffer) {
                Ok(length) => length,
                Err(error) => match Unreachable::of(&error) {
                    // Said once, and there may be datagrams behind it.
                    Some(why) => {
                        tell(&mapping.ends, why, around);
                        continue;
                    }
                    None => return,
                },
            };
            self.ident = self.ident.wrapping_add(1);
            let content = &self.buffer[..length];
            if !deliver(&mapping.ends, content, self.ident, around.plan, around.wire) {
                self.waiting.insert(token);
                return;
            }
            // It was only looked at, so that none is lost while the guest has no room.
            let _ = mapping.socket.recv(&mut self.buffer[..0]);
        }
        // Its event is told once: what it has is to be read without another.
        self.turns.insert(token);
    }

    /// Those whose turn was over have another; whether some are not through yet.
    pub fn flush(&mut self, around: &mut Around<'_>) -> bool {
        for token in std::mem::take(&mut self.turns) {
            self.stirred(token, around);
        }
        !self.turns.is_empty()
    }

    /// The guest has room for frames again.
    pub fn refill(&mut self, around: &mut Around<'_>) {
        for token in std::mem::take(&mut self.waiting) {
            self.stirred(token, around);
        }
    }

    /// A deadline has passed.
    pub fn waited(&mut self, token: Token, around: &mut Around<'_>) {
        if self.questions.has(token) {
            return self.questions.waited(token, around);
        }
        self.mappings.waited(token, around);
    }
}

/// Where a socket is bound that sends to `target`.
pub fn any(target: SocketAddr) -> SocketAddr {
    match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// The socket, which sends to `target` from now on; never to itself, where nobody listens and the system gave it that port.
pub fn joined(socket: UdpSocket, target: SocketAddr) -> io::Result<UdpSocket> {
    socket.connect(target)?;
    match socket.local_addr()? == target {
        true => Err(io::ErrorKind::ConnectionRefused.into()),
        false => Ok(socket),
    }
}

fn is_broadcast(datagram: &Datagram<'_>) -> bool {
    matches!(datagram.destination, IpAddr::V4(to) if to.is_broadcast())
}

fn idle(ends: &Ends) -> Duration {
    match ends.remote.port() {
        NAMES => IDLE_NAMES,
        _ => IDLE,
    }
}

/// Tells the guest that something it sent was not delivered.
pub fn tell(ends: &Ends, why: Unreachable, around: &mut Around<'_>) {
    let mut packet = [0_u8; LONGEST_HEAD];
    let addresses = [ends.guest.ip(), ends.remote.ip()];
    let start = frame::write_ip(&mut packet, around.plan, addresses, IpProtocol::Udp, 8);
    write_header(&mut packet[start..start + 8], [ends.guest, ends.remote], 0);
    let datagram = Datagram {
        source: addresses[0],
        destination: addresses[1],
        protocol: IpProtocol::Udp,
        payload: &packet[start..start + 8],
        packet: &packet[ETHERNET..start + 8],
    };
    icmp::unreachable(&datagram, why, around.plan, around.wire);
}

fn write_header(out: &mut [u8], [from, to]: [SocketAddr; 2], length: usize) {
    let mut packet = UdpPacket::new_unchecked(out);
    packet.set_src_port(from.port());
    packet.set_dst_port(to.port());
    packet.set_len((8 + length) as u16);
    let addresses = [from.ip(), to.ip()];
    packet.set_checksum(frame::pseudo_sum(addresses, IpProtocol::Udp, 8 + length));
}

/// Sends content to the guest, in pieces where it is longer than its link takes at once.
pub fn deliver(ends: &Ends, content: &[u8], ident: u16, plan: &Plan, wire: &mut dyn Wire) -> bool {
    let addresses = [ends.remote.ip(), ends.guest.ip()];
    let total = 8 + content.len();
    let mut out = [0_u8; LONGEST_HEAD];
    let start = frame::write_ip(&mut out, plan, addresses, IpProtocol::Udp, total);
    write_header(
        &mut out[start..start + 8],
        [ends.remote, ends.guest],
        content.len(),
    );
    if content.len() <= ONE_PACKET - if addresses[0].is_ipv4() { 0 } else { 20 } {
        return wire.send(&Outgoing {
            head: &out[..start + 8],
            content: [content, &[]],
            offload: Offload::Checksum {
                start: start as u16,
                offset: 6,
            },
        });
    }
    // In pieces there is nothing for the device to complete.
    frame::complete_udp(&mut out[start..start + 8], content);
    frame::send_in_pieces(wire, &mut out, [start, start + 8], content, ident)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_does_not_send_to_itself() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let itself = socket.local_addr().unwrap();
        let refused = joined(socket, itself).unwrap_err();
        assert_eq!(Unreachable::of(&refused), Some(Unreachable::Port));
    }
}
