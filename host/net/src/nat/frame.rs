//! Frames from and to the guest: what is read of them, and how they are written.
//!
//! Frames of the guest are hostile: every length is checked before anything is read, and what is not
//! wholly understood is dropped.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, IpVersion, Ipv4Packet, Ipv6Packet, TcpPacket,
    UdpPacket,
};

use super::pieces::Piece;
use super::plan::Plan;

/// The length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// The longest head that is written: Ethernet, IPv6, TCP with its options.
pub const LONGEST_HEAD: usize = ETHERNET + 40 + 60;

/// What a frame of the guest holds.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// An ARP packet.
    Arp(&'a [u8]),
    /// An IP packet that is whole.
    Ip(Datagram<'a>),
    /// A piece of an IP packet.
    Piece(Piece<'a>),
    /// Something that is not spoken here, or is broken.
    Other,
}

/// An IP packet's content.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// What it holds.
    pub protocol: IpProtocol,
    /// That.
    pub payload: &'a [u8],
    /// The whole packet, for those who are told that it did not arrive.
    pub packet: &'a [u8],
}

impl<'a> Incoming<'a> {
    /// Looks into a frame.
    pub fn parse(frame: &'a [u8]) -> Self {
        let Ok(frame) = EthernetFrame::new_checked(frame) else {
            return Self::Other;
        };
        match frame.ethertype() {
            EthernetProtocol::Arp => Self::Arp(frame.payload()),
            EthernetProtocol::Ipv4 => Self::v4(frame.payload()),
            EthernetProtocol::Ipv6 => Self::v6(frame.payload()),
            EthernetProtocol::Unknown(_) => Self::Other,
        }
    }

    fn v4(bytes: &'a [u8]) -> Self {
        let Ok(packet) = Ipv4Packet::new_checked(bytes) else {
            return Self::Other;
        };
        if packet.version() != 4 {
            return Self::Other;
        }
        let packet_bytes = &bytes[..usize::from(packet.total_len())];
        if packet.more_frags() || packet.frag_offset() != 0 {
            return Piece::v4(packet_bytes).map_or(Self::Other, Self::Piece);
        }
        datagram(packet_bytes).map_or(Self::Other, Self::Ip)
    }

    fn v6(bytes: &'a [u8]) -> Self {
        let Ok(packet) = Ipv6Packet::new_checked(bytes) else {
            return Self::Other;
        };
        if packet.version() != 6 {
            return Self::Other;
        }
        let packet_bytes = &bytes[..packet.total_len()];
        if packet.next_header() == IpProtocol::Ipv6Frag {
            return Piece::v6(packet_bytes).map_or(Self::Other, Self::Piece);
        }
        datagram(packet_bytes).map_or(Self::Other, Self::Ip)
    }
}

/// The content of a whole packet of either version.
pub fn datagram(bytes: &[u8]) -> Option<Datagram<'_>> {
    match IpVersion::of_packet(bytes).ok()? {
        IpVersion::Ipv4 => {
            let packet = Ipv4Packet::new_checked(bytes).ok()?;
            let header = usize::from(packet.header_len());
            Some(Datagram {
                source: packet.src_addr().into(),
                destination: packet.dst_addr().into(),
                protocol: packet.next_header(),
                payload: bytes.get(header..usize::from(packet.total_len()))?,
                packet: bytes,
            })
        }
        IpVersion::Ipv6 => {
            let packet = Ipv6Packet::new_checked(bytes).ok()?;
            Some(Datagram {
                source: packet.src_addr().into(),
                destination: packet.dst_addr().into(),
                protocol: packet.next_header(),
                payload: bytes.get(packet.header_len()..packet.total_len())?,
                packet: bytes,
            })
        }
    }
}

/// Checks that are left to the guest's device, which it has been told it may skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// The frame is complete.
    None,
    /// The checksum at `start + offset` covers what is behind `start`; it holds the pseudo header's sum.
    Checksum {
        /// Where the covered part begins.
        start: u16,
        /// Where in it the sum is.
        offset: u16,
    },
    /// The same, and the frame stands for several of at most `size` bytes of content each.
    Segments {
        /// Where the covered part begins.
        start: u16,
        /// Where in it the sum is.
        offset: u16,
        /// Bytes of content.
        size: u16,
        /// Whether it is IPv6.
        v6: bool,
    },
}

/// A frame for the guest: a head, then content in two pieces.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// All headers.
    pub head: &'a [u8],
    /// What follows.
    pub content: [&'a [u8]; 2],
    /// What is left to do.
    pub offload: Offload,
}

impl Outgoing<'_> {
    /// Length of the frame in bytes.
    pub fn length(&self) -> usize {
        self.head.len() + self.content[0].len() + self.content[1].len()
    }
}

/// The guest's end of the link.
pub trait Wire {
    /// Hands the guest a frame; false if it has no room for one now, and nothing was sent.
    fn send(&mut self, frame: &Outgoing<'_>) -> bool;
}

/// Writes Ethernet and IP headers from us to the guest for `length` bytes of `protocol`; how long they are.
/// `out` has [`LONGEST_HEAD`] bytes at least.
pub fn write_ip(
    out: &mut [u8],
    plan: &Plan,
    [source, destination]: [IpAddr; 2],
    protocol: IpProtocol,
    length: usize,
) -> usize {
    let v4 = write_ethernet(out, plan, source.is_ipv4());
    let rest = &mut out[ETHERNET..];
    match (source, destination, v4) {
        (IpAddr::V4(source), IpAddr::V4(destination), true) => {
            let mut packet = Ipv4Packet::new_unchecked(rest);
            packet.set_version(4);
            packet.set_header_len(20);
            packet.set_dscp(0);
            packet.set_ecn(0);
            packet.set_total_len(u16::try_from(20 + length).unwrap_or(u16::MAX));
            packet.set_ident(0);
            packet.clear_flags();
            packet.set_dont_frag(true);
            packet.set_frag_offset(0);
            packet.set_hop_limit(64);
            packet.set_next_header(protocol);
            packet.set_src_addr(source);
            packet.set_dst_addr(destination);
            packet.fill_checksum();
            ETHERNET + 20
        }
        (source, destination, _) => {
            let v6 = |address| match address {
                IpAddr::V6(address) => address,
                IpAddr::V4(address) => address.to_ipv6_mapped(),
            };
            let mut packet = Ipv6Packet::new_unchecked(rest);
            packet.set_version(6);
            packet.set_traffic_class(0);
            packet.set_flow_label(0);
            packet.set_payload_len(u16::try_from(length).unwrap_or(u16::MAX));
            packet.set_next_header(protocol);
            packet.set_hop_limit(64);
            packet.set_src_addr(v6(source));
            packet.set_dst_addr(v6(destination));
            ETHERNET + 40
        }
    }
}

fn write_ethernet(out: &mut [u8], plan: &Plan, v4: bool) -> bool {
    let mut frame = EthernetFrame::new_unchecked(out);
    frame.set_dst_addr(plan.guest_mac);
    frame.set_src_addr(plan.gateway_mac);
    frame.set_ethertype(match v4 {
        true => EthernetProtocol::Ipv4,
        false => EthernetProtocol::Ipv6,
    });
    v4
}

/// The ports of a TCP segment or UDP datagram, with its addresses.
pub fn ends(datagram: &Datagram<'_>, source: u16, destination: u16) -> [SocketAddr; 2] {
    [
        SocketAddr::new(datagram.source, source),
        SocketAddr::new(datagram.destination, destination),
    ]
}

/// A TCP segment, if it is one.
pub fn tcp<'a>(datagram: &Datagram<'a>) -> Option<TcpPacket<&'a [u8]>> {
    TcpPacket::new_checked(datagram.payload).ok()
}

/// A UDP datagram, if it is one.
pub fn udp<'a>(datagram: &Datagram<'a>) -> Option<UdpPacket<&'a [u8]>> {
    UdpPacket::new_checked(datagram.payload).ok()
}

/// The sum over the pseudo header, as it stands in a packet whose checksum the device completes
/// (virtio 1.2, section 5.1.6.2).
pub fn pseudo_sum([source, destination]: [IpAddr; 2], protocol: IpProtocol, length: usize) -> u16 {
    let mut sum: u32 = u32::from(u8::from(protocol)) + length as u32;
    for address in [source, destination] {
        let (four, sixteen);
        let octets: &[u8] = match address {
            IpAddr::V4(address) => {
                four = address.octets();
                &four
            }
            IpAddr::V6(address) => {
                sixteen = address.octets();
                &sixteen
            }
        };
        for pair in octets.chunks_exact(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Every checksum is computed and compared.
pub fn checked() -> ChecksumCapabilities {
    ChecksumCapabilities::default()
}

/// Completes the checksum of a UDP header whose pseudo sum is in place.
pub fn complete_udp(header: &mut [u8], content: &[u8]) {
    let mut sum: u32 = 0;
    for bytes in [&*header, content] {
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // RFC 768: a sum of zero is sent as its other form, for zero says that there is none.
    let sum = match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    };
    header[6..8].copy_from_slice(&sum.to_be_bytes());
}

/// What the guest's link takes at once, in bytes of an IP packet.
const MTU: usize = 1_500;

/// Sends a packet that is complete, in pieces if it is longer than the guest's link takes. `out` holds
/// Ethernet and IP up to `ip_end`, and what belongs to the content up to `head_end`.
pub fn send_in_pieces(
    wire: &mut dyn Wire,
    out: &mut [u8; LONGEST_HEAD],
    [ip_end, head_end]: [usize; 2],
    content: &[u8],
    ident: u16,
) -> bool {
    let inner = head_end - ip_end;
    let header = ip_end - ETHERNET;
    if header + inner + content.len() <= MTU {
        return wire.send(&Outgoing {
            head: &out[..head_end],
            content: [content, &[]],
            offload: Offload::None,
        });
    }
    let v4 = header == 20;
    let total = inner + content.len();
    let extension = if v4 { 0 } else { 8 };
    let most = (MTU - header - extension) / 8 * 8;
    let mut first = [0_u8; 8];
    first[..inner].copy_from_slice(&out[ip_end..head_end]);
    let next = out[ETHERNET + 6];
    let mut offset = 0;
    while offset < total {
        let length = most.min(total - offset);
        let more = offset + length < total;
        let mut end = ip_end;
        if v4 {
            let mut packet = Ipv4Packet::new_unchecked(&mut out[ETHERNET..ip_end]);
            packet.set_total_len((header + length) as u16);
            packet.set_ident(ident);
            packet.set_dont_frag(false);
            packet.set_more_frags(more);
            packet.set_frag_offset(offset as u16);
            packet.fill_checksum();
        } else {
            let mut packet = Ipv6Packet::new_unchecked(&mut out[ETHERNET..ip_end]);
            packet.set_payload_len((extension + length) as u16);
            packet.set_next_header(IpProtocol::Ipv6Frag);
            let place = offset as u16 | u16::from(more);
            out[end..end + 2].copy_from_slice(&[next, 0]);
            out[end + 2..end + 4].copy_from_slice(&place.to_be_bytes());
            out[end + 4..end + 8].copy_from_slice(&u32::from(ident).to_be_bytes());
            end += extension;
        }
        let from = offset.saturating_sub(inner);
        let to = offset + length - inner;
        if offset == 0 {
            out[end..end + inner].copy_from_slice(&first[..inner]);
            end += inner;
        }
        let sent = wire.send(&Outgoing {
            head: &out[..end],
            content: [&content[from..to], &[]],
            offload: Offload::None,
        });
        if !sent {
            return false;
        }
        offset += length;
    }
    true
}
