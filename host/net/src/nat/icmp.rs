//! Echo requests of the guest, asked by the host's own sockets for them; and word to the guest that
//! something could not be delivered.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::UdpSocket;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv6DstUnreachable, Icmpv6Message,
    Icmpv6Packet, IpProtocol,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::frame::{self, Datagram, LONGEST_HEAD, Wire};
use super::mapping::{Mappings, Pair};
use super::plan::{Plan, Target};
use super::tcp::Around;
use super::timers::Token;

/// How long one is kept that is not used.
const IDLE: Duration = Duration::from_secs(30);
/// The longest message that is taken.
const LONGEST: usize = 65_535 - 20;
/// Bytes of a packet that are told to who sent it: all headers, and the beginning of the content.
const TOLD: usize = 64;
/// Type, code, checksum, identifier, number.
const HEADER: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends {
    guest: IpAddr,
    remote: IpAddr,
    ident: u16,
}

impl Pair for Ends {
    fn source(&self) -> IpAddr {
        self.guest
    }
}

/// All that are asked.
#[derive(Debug)]
pub struct Icmp {
    mappings: Mappings<Ends>,
    buffer: Box<[u8]>,
    ident: u16,
}

impl Icmp {
    /// None yet, and `most` at a time.
    pub fn new(most: usize) -> Self {
        Self {
            mappings: Mappings::new(most),
            buffer: vec![0; LONGEST].into_boxed_slice(),
            ident: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.mappings.len()
    }

    /// A message of the guest.
    pub fn receive(&mut self, datagram: &Datagram<'_>, around: &mut Around<'_>, token: Token) {
        let Some((ident, is_request)) = echo(datagram) else {
            return;
        };
        if !is_request {
            return;
        }
        if around.plan.gateway.contains(&datagram.destination) {
            // The gateway itself is there.
            let mut answer = datagram.payload.to_vec();
            make_reply(&mut answer, datagram.destination, datagram.source);
            deliver(
                [datagram.destination, datagram.source],
                &answer,
                0,
                around.plan,
                around.wire,
            );
            return;
        }
        // Judged as a packet to any port would be.
        let target = match around.plan.target(SocketAddr::new(datagram.destination, 1)) {
            Target::Remote(to) | Target::Host(to) => to.ip(),
            Target::Names | Target::Refused => {
                unreachable(datagram, Unreachable::Prohibited, around.plan, around.wire);
                return;
            }
        };
        let ends = Ends {
            guest: datagram.source,
            remote: datagram.destination,
            ident,
        };
        if !self.mappings.has(&ends) && self.begin(ends, target, around, token).is_none() {
            unreachable(datagram, Unreachable::Host, around.plan, around.wire);
            return;
        }
        let Some(mapping) = self.mappings.of(&ends, around) else {
            return;
        };
        // One that cannot be sent is one that is not answered.
        let _ = mapping.socket.send(datagram.payload);
    }

    fn begin(
        &mut self,
        ends: Ends,
        target: IpAddr,
        around: &mut Around<'_>,
        token: Token,
    ) -> Option<()> {
        let (domain, protocol) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        // The kernel gives it an identifier of its own, and only answers to that come back. A host that
        // does not let its user have one (`net.ipv4.ping_group_range`) has no echo for its containers.
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol)).ok()?;
        socket.set_nonblocking(true).ok()?;
        socket.connect(&SocketAddr::new(target, 0).into()).ok()?;
        let socket = UdpSocket::from_std(socket.into());
        self.mappings.begin(ends, socket, IDLE, around, token).ok()
    }

    /// A socket has answers.
    pub fn stirred(&mut self, token: Token, around: &mut Around<'_>) {
        let Some(mapping) = self.mappings.stirred(token, around.now) else {
            return;
        };
        while let Ok(length) = mapping.socket.recv(&mut self.buffer) {
            if length < HEADER {
                continue;
            }
            let message = &mut self.buffer[..length];
            message[4..6].copy_from_slice(&mapping.ends.ident.to_be_bytes());
            fill_checksum(message, mapping.ends.remote, mapping.ends.guest);
            self.ident = self.ident.wrapping_add(1);
            // A guest without room has lost an answer, as networks do.
            deliver(
                [mapping.ends.remote, mapping.ends.guest],
                message,
                self.ident,
                around.plan,
                around.wire,
            );
        }
    }

    /// A deadline has passed.
    pub fn waited(&mut self, token: Token, around: &mut Around<'_>) {
        self.mappings.waited(token, around);
    }
}

/// The identifier of an echo message, and whether it asks.
fn echo(datagram: &Datagram<'_>) -> Option<(u16, bool)> {
    match datagram.protocol {
        IpProtocol::Icmp => {
            let packet = Icmpv4Packet::new_checked(datagram.payload).ok()?;
            let asks = packet.msg_type() == Icmpv4Message::EchoRequest;
            (datagram.payload.len() >= HEADER).then(|| (packet.echo_ident(), asks))
        }
        IpProtocol::Icmpv6 => {
            let packet = Icmpv6Packet::new_checked(datagram.payload).ok()?;
            let asks = packet.msg_type() == Icmpv6Message::EchoRequest;
            (asks && datagram.payload.len() >= HEADER).then(|| (packet.echo_ident(), asks))
        }
        _ => None,
    }
}

fn make_reply(message: &mut [u8], from: IpAddr, to: IpAddr) {
    message[0] = match from {
        IpAddr::V4(_) => Icmpv4Message::EchoReply.into(),
        IpAddr::V6(_) => Icmpv6Message::EchoReply.into(),
    };
    fill_checksum(message, from, to);
}

fn fill_checksum(message: &mut [u8], from: IpAddr, to: IpAddr) {
    match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Icmpv6Packet::new_unchecked(message).fill_checksum(&from, &to);
        }
        _ => Icmpv4Packet::new_unchecked(message).fill_checksum(),
    }
}

fn deliver(
    ends: [IpAddr; 2],
    message: &[u8],
    ident: u16,
    plan: &Plan,
    wire: &mut dyn Wire,
) -> bool {
    let protocol = match ends[0] {
        IpAddr::V4(_) => IpProtocol::Icmp,
        IpAddr::V6(_) => IpProtocol::Icmpv6,
    };
    let mut out = [0_u8; LONGEST_HEAD];
    let start = frame::write_ip(&mut out, plan, ends, protocol, message.len());
    frame::send_in_pieces(wire, &mut out, [start, start], message, ident)
}

/// Why something was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Nobody listens there.
    Port,
    /// There is no way to it.
    Host,
    /// There is none to its network.
    Network,
    /// There may be one, and it is not for the guest.
    Prohibited,
}

impl Unreachable {
    /// What an error of a socket says of what was sent by it, where it says that.
    pub fn of(error: &io::Error) -> Option<Self> {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
        match error.kind() {
            ConnectionRefused => Some(Self::Port),
            HostUnreachable => Some(Self::Host),
            NetworkUnreachable | NetworkDown => Some(Self::Network),
            _ => None,
        }
    }
}

/// Tells the guest that a packet of its was not delivered.
pub fn unreachable(datagram: &Datagram<'_>, why: Unreachable, plan: &Plan, wire: &mut dyn Wire) {
    let told = &datagram.packet[..datagram.packet.len().min(TOLD)];
    let mut message = [0_u8; HEADER + TOLD];
    message[HEADER..HEADER + told.len()].copy_from_slice(told);
    (message[0], message[1]) = match (datagram.source, why) {
        (IpAddr::V4(_), why) => (
            Icmpv4Message::DstUnreachable.into(),
            match why {
                Unreachable::Port => Icmpv4DstUnreachable::PortUnreachable,
                Unreachable::Host => Icmpv4DstUnreachable::HostUnreachable,
                Unreachable::Network => Icmpv4DstUnreachable::NetUnreachable,
                Unreachable::Prohibited => Icmpv4DstUnreachable::CommProhibited,
            }
            .into(),
        ),
        (IpAddr::V6(_), why) => (
            Icmpv6Message::DstUnreachable.into(),
            match why {
                Unreachable::Port => Icmpv6DstUnreachable::PortUnreachable,
                Unreachable::Host => Icmpv6DstUnreachable::AddrUnreachable,
                Unreachable::Network => Icmpv6DstUnreachable::NoRoute,
                Unreachable::Prohibited => Icmpv6DstUnreachable::AdminProhibit,
            }
            .into(),
        ),
    };
    // As if the one it was for had said so: the guest looks its socket up by what it sent.
    let gateway = plan.gateway[usize::from(datagram.source.is_ipv6())];
    let message = &mut message[..HEADER + told.len()];
    fill_checksum(message, gateway, datagram.source);
    deliver([gateway, datagram.source], message, 0, plan, wire);
}
