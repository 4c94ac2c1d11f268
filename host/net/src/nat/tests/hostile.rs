//! Frames made by hand, and frames that nobody should make.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lighter_protocol::link;
use proptest::prelude::*;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Packet, IpProtocol, Ipv4Packet,
    Ipv6Packet, TcpPacket, TcpSeqNumber, UdpPacket,
};

use super::guest::World;

fn packet(to: IpAddr, protocol: IpProtocol, content: &[u8]) -> Vec<u8> {
    let IpAddr::V4(to) = to else {
        panic!("of version 4");
    };
    let mut bytes = vec![0; 34];
    bytes.extend_from_slice(content);
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    frame.set_dst_addr(EthernetAddress(link::GATEWAY_MAC));
    frame.set_src_addr(EthernetAddress(link::GUEST_MAC));
    frame.set_ethertype(EthernetProtocol::Ipv4);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    packet.set_version(4);
    packet.set_header_len(20);
    packet.set_total_len((20 + content.len()) as u16);
    packet.set_hop_limit(64);
    packet.set_next_header(protocol);
    packet.set_src_addr(link::GUEST_V4);
    packet.set_dst_addr(to);
    packet.fill_checksum();
    bytes
}

fn udp(from: u16, to: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend_from_slice(content);
    let length = bytes.len() as u16;
    let mut packet = UdpPacket::new_unchecked(&mut bytes[..]);
    packet.set_src_port(from);
    packet.set_dst_port(to);
    packet.set_len(length);
    bytes
}

/// A datagram of the guest.
pub fn datagram(from: u16, to: SocketAddr, content: &[u8]) -> Vec<u8> {
    packet(to.ip(), IpProtocol::Udp, &udp(from, to.port(), content))
}

/// A datagram of the guest in pieces.
pub fn in_pieces(from: u16, to: SocketAddr, content: &[u8]) -> Vec<Vec<u8>> {
    let whole = udp(from, to.port(), content);
    let pieces = whole.chunks(1_480).enumerate();
    let made = pieces.map(|(at, piece)| {
        let mut frame = packet(to.ip(), IpProtocol::Udp, piece);
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
        packet.set_ident(77);
        packet.set_frag_offset((at * 1_480) as u16);
        packet.set_more_frags((at + 1) * 1_480 < whole.len());
        packet.fill_checksum();
        frame
    });
    made.collect()
}

fn packet_v6(to: Ipv6Addr, protocol: IpProtocol, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 54];
    bytes.extend_from_slice(content);
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    frame.set_dst_addr(EthernetAddress(link::GATEWAY_MAC));
    frame.set_src_addr(EthernetAddress(link::GUEST_MAC));
    frame.set_ethertype(EthernetProtocol::Ipv6);
    let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
    packet.set_version(6);
    packet.set_payload_len(content.len() as u16);
    packet.set_hop_limit(64);
    packet.set_next_header(protocol);
    packet.set_src_addr(link::GUEST_V6);
    packet.set_dst_addr(to);
    bytes
}

/// A datagram of the guest in pieces of version 6.
pub fn in_pieces_v6(from: u16, to: (Ipv6Addr, u16), content: &[u8]) -> Vec<Vec<u8>> {
    let whole = udp(from, to.1, content);
    let pieces = whole.chunks(1_448).enumerate();
    let made = pieces.map(|(at, piece)| {
        let more = (at + 1) * 1_448 < whole.len();
        let place = (at * 1_448) as u16 | u16::from(more);
        let mut bytes = vec![IpProtocol::Udp.into(), 0];
        bytes.extend(place.to_be_bytes());
        bytes.extend(77_000_u32.to_be_bytes());
        bytes.extend_from_slice(piece);
        packet_v6(to.0, IpProtocol::Ipv6Frag, &bytes)
    });
    made.collect()
}

/// An echo request of the guest.
pub fn echo(to: Ipv4Addr, content: &[u8]) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    message.extend_from_slice(content);
    Icmpv4Packet::new_unchecked(&mut message[..]).fill_checksum();
    packet(to.into(), IpProtocol::Icmp, &message)
}

/// The beginning of a connection.
pub fn begin(from: u16, to: SocketAddr) -> Vec<u8> {
    packet(to.ip(), IpProtocol::Tcp, &syn(from, to.port()))
}

/// One of version 6.
pub fn begin_v6(from: u16, to: (Ipv6Addr, u16)) -> Vec<u8> {
    packet_v6(to.0, IpProtocol::Tcp, &syn(from, to.1))
}

fn syn(from: u16, to: u16) -> [u8; 20] {
    let mut bytes = [0; 20];
    let mut segment = TcpPacket::new_unchecked(&mut bytes[..]);
    segment.set_src_port(from);
    segment.set_dst_port(to);
    segment.set_seq_number(TcpSeqNumber(1));
    segment.set_header_len(20);
    segment.set_syn(true);
    segment.set_window_len(1_000);
    bytes
}

/// The same packet as another address of the guest sends it.
pub fn sent_by(source: Ipv4Addr, mut frame: Vec<u8>) -> Vec<u8> {
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
    packet.set_src_addr(source);
    packet.fill_checksum();
    frame
}

/// Whole frames of every kind, to be damaged.
fn whole() -> impl Strategy<Value = Vec<u8>> {
    let host = SocketAddr::new(link::HOST_V4.into(), 9);
    prop_oneof![
        Just(datagram(1_000, host, b"content")),
        Just(echo(link::GATEWAY_V4, b"content")),
        Just(begin(40_000, host)),
        Just(in_pieces(1_000, host, &[1; 3_000]).remove(1)),
        Just(in_pieces_v6(1_000, (link::HOST_V6, 9), &[1; 3_000]).remove(1)),
        proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_frame_however_broken_stops_the_router(
        frames in proptest::collection::vec((whole(), any::<u16>(), any::<u8>(), any::<u16>()), 1..20)
    ) {
        let mut world = World::new();
        for (mut frame, at, byte, length) in frames {
            if !frame.is_empty() {
                let at = usize::from(at) % frame.len();
                frame[at] = byte;
                // Most often as long as it was.
                if length % 4 == 0 {
                    frame.truncate(usize::from(length / 4) % (frame.len() + 1));
                }
            }
            world.frame(&frame);
        }
        // It still answers.
        prop_assert_eq!(world.frame(&echo(link::GATEWAY_V4, b"x")).len(), 1);
    }
}
