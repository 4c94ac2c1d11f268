//! A connection of the host that is not made, and how the guest is told: as it would be by a router on its way.
//!
//! Called by the table of connections.

use std::io;

use smoltcp::wire::{IpProtocol, TcpPacket};

use super::super::frame::{self, Datagram, ETHERNET, LONGEST_HEAD};
use super::super::icmp::{self, Unreachable};
use super::Around;
use super::segment::{Ends, number};

/// Why it is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens there, or we have no room: a reset.
    Refused,
    /// There is no way.
    Unreachable(Unreachable),
    /// Nobody answered in time. The guest's own patience ends by itself, and what it asks meanwhile is tried again.
    Late,
}

impl Failure {
    /// What an error of connecting means.
    pub fn of(error: &io::Error) -> Self {
        match (error.kind(), Unreachable::of(error)) {
            (_, Some(Unreachable::Port)) => Self::Refused,
            (_, Some(why)) => Self::Unreachable(why),
            (io::ErrorKind::TimedOut, _) => Self::Late,
            // The system has no address of its own to say it from, or its user has no leave.
            (io::ErrorKind::AddrNotAvailable, _) => Self::Unreachable(Unreachable::Network),
            (io::ErrorKind::PermissionDenied, _) => Self::Unreachable(Unreachable::Prohibited),
            _ => Self::Refused,
        }
    }
}

/// Whether the other side ended a connection that was made; by the second name where it had said its end before.
pub fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), ConnectionReset | BrokenPipe)
}

/// Tells the guest that there is no way for what it began with `sequence`. One without room asks again.
pub fn tell(ends: Ends, sequence: u32, why: Unreachable, around: &mut Around<'_>) {
    let mut packet = [0_u8; LONGEST_HEAD];
    let addresses = [ends.guest.ip(), ends.remote.ip()];
    let start = frame::write_ip(&mut packet, around.plan, addresses, IpProtocol::Tcp, 20);
    let end = start + 20;
    let mut segment = TcpPacket::new_unchecked(&mut packet[start..end]);
    segment.set_src_port(ends.guest.port());
    segment.set_dst_port(ends.remote.port());
    segment.set_seq_number(number(sequence));
    segment.set_header_len(20);
    segment.set_syn(true);
    let datagram = Datagram {
        source: addresses[0],
        destination: addresses[1],
        protocol: IpProtocol::Tcp,
        payload: &packet[start..end],
        packet: &packet[ETHERNET..end],
    };
    icmp::unreachable(&datagram, why, around.plan, around.wire);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_as_what_they_are() {
        use io::ErrorKind as Kind;
        for (kind, failure) in [
            (Kind::ConnectionRefused, Failure::Refused),
            (
                Kind::HostUnreachable,
                Failure::Unreachable(Unreachable::Host),
            ),
            (
                Kind::NetworkUnreachable,
                Failure::Unreachable(Unreachable::Network),
            ),
            (
                Kind::NetworkDown,
                Failure::Unreachable(Unreachable::Network),
            ),
            (
                Kind::AddrNotAvailable,
                Failure::Unreachable(Unreachable::Network),
            ),
            (
                Kind::PermissionDenied,
                Failure::Unreachable(Unreachable::Prohibited),
            ),
            (Kind::TimedOut, Failure::Late),
            (Kind::Other, Failure::Refused),
        ] {
            assert_eq!(Failure::of(&kind.into()), failure, "{kind:?}");
        }
    }
}
