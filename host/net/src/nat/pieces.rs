//! Packets that come in pieces, put together (RFC 791, section 3.2; RFC 815; RFC 8200, section 4.5).
//!
//! Bounded in every way: so many packets at a time, each as long as a packet can be, and none for longer
//! than the time a piece may take. Where there are too many, the oldest goes of whoever has most. A packet whose pieces
//! overlap is dropped whole (RFC 5722, and for version 4 as well): no honest sender makes one.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet};

/// Packets that may be incomplete at a time.
const MOST: usize = 64;
/// How long the pieces of one may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The header of a piece of version 6.
const HEADER_V6: usize = 8;

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    /// In version 6 the first piece says it: the others need not agree.
    protocol: Option<IpProtocol>,
    ident: u32,
}

impl Key {
    /// The longest content of a packet: with a header of 20 bytes in version 4, beside the header in version 6.
    fn longest(&self) -> usize {
        match self.source {
            IpAddr::V4(_) => 65_535 - 20,
            IpAddr::V6(_) => 65_535,
        }
    }
}

/// A piece.
#[derive(Debug)]
pub struct Piece<'a> {
    key: Key,
    protocol: IpProtocol,
    offset: usize,
    content: &'a [u8],
    last: bool,
}

impl<'a> Piece<'a> {
    /// That in a packet of version 4 whose lengths were checked.
    pub fn v4(bytes: &'a [u8]) -> Option<Self> {
        let packet = Ipv4Packet::new_checked(bytes).ok()?;
        Some(Self {
            key: Key {
                source: packet.src_addr().into(),
                destination: packet.dst_addr().into(),
                protocol: Some(packet.next_header()),
                ident: packet.ident().into(),
            },
            protocol: packet.next_header(),
            offset: packet.frag_offset().into(),
            content: bytes.get(usize::from(packet.header_len())..)?,
            last: !packet.more_frags(),
        })
    }

    /// That in a packet of version 6, whose lengths were checked and whose first header is that of a piece.
    pub fn v6(bytes: &'a [u8]) -> Option<Self> {
        let packet = Ipv6Packet::new_checked(bytes).ok()?;
        let (header, content) = packet.payload().split_at_checked(HEADER_V6)?;
        let place = u16::from_be_bytes([header[2], header[3]]);
        Some(Self {
            key: Key {
                source: packet.src_addr().into(),
                destination: packet.dst_addr().into(),
                protocol: None,
                ident: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            },
            protocol: header[0].into(),
            offset: usize::from(place & !7),
            content,
            last: place & 1 == 0,
        })
    }

    /// All of a packet, which has nothing to do with others of its number (RFC 6946).
    fn is_whole(&self) -> bool {
        self.offset == 0 && self.last
    }

    fn is_good(&self) -> bool {
        !self.content.is_empty()
            && self.offset + self.content.len() <= self.key.longest()
            && (self.last || self.content.len().is_multiple_of(8))
    }
}

#[derive(Debug)]
struct Packet {
    key: Key,
    protocol: IpProtocol,
    since: Instant,
    content: Vec<u8>,
    /// What is there: beginnings and ends, in order.
    there: Vec<(usize, usize)>,
    length: Option<usize>,
}

/// Packets that are incomplete.
#[derive(Debug, Default)]
pub struct Pieces(VecDeque<Packet>);

impl Pieces {
    /// Takes a piece; gives the whole packet once it is that.
    pub fn take(&mut self, piece: &Piece<'_>, now: Instant) -> Option<Vec<u8>> {
        self.0.retain(|packet| now < packet.since + PATIENCE);
        if piece.is_whole() {
            let mut packet = Packet::new(piece, now);
            return (piece.is_good() && packet.add(piece)).then(|| packet.into_bytes());
        }
        let at = match self.0.iter().position(|packet| packet.key == piece.key) {
            Some(at) => at,
            None => {
                if self.0.len() >= MOST {
                    self.make_room();
                }
                self.0.push_back(Packet::new(piece, now));
                self.0.len() - 1
            }
        };
        let packet = self.0.get_mut(at)?;
        if !piece.is_good() || !packet.add(piece) {
            self.0.remove(at);
            return None;
        }
        if !packet.is_whole() {
            return None;
        }
        self.0.remove(at).map(Packet::into_bytes)
    }

    /// Drops the oldest of whoever has most.
    fn make_room(&mut self) {
        let of = |source: IpAddr| {
            let his = |packet: &&Packet| packet.key.source == source;
            self.0.iter().filter(his).count()
        };
        let counts = self.0.iter().map(|packet| of(packet.key.source));
        // Of several the first is taken, which is the oldest.
        let most = counts.rev().enumerate().max_by_key(|(_, count)| *count);
        if let Some((from_end, _)) = most {
            self.0.remove(self.0.len() - 1 - from_end);
        }
    }
}

impl Packet {
    fn new(piece: &Piece<'_>, since: Instant) -> Self {
        Self {
            key: piece.key,
            protocol: piece.protocol,
            since,
            content: Vec::new(),
            there: Vec::new(),
            length: None,
        }
    }

    /// Whether the piece fits to the others.
    fn add(&mut self, piece: &Piece<'_>) -> bool {
        let (offset, content) = (piece.offset, piece.content);
        let end = offset + content.len();
        if offset == 0 {
            self.protocol = piece.protocol;
        }
        if piece.last && self.length.replace(end).is_some() {
            return false;
        }
        if self
            .length
            .is_some_and(|length| end.max(self.content.len()) > length)
        {
            return false;
        }
        let at = self.there.partition_point(|(start, _)| *start < offset);
        let free = at
            .checked_sub(1)
            .is_none_or(|one| self.there[one].1 <= offset)
            && self.there.get(at).is_none_or(|(start, _)| end <= *start);
        if !free {
            return false;
        }
        self.there.insert(at, (offset, end));
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content[offset..end].copy_from_slice(content);
        true
    }

    fn is_whole(&self) -> bool {
        let mut reached = 0;
        for (start, end) in &self.there {
            if *start != reached {
                return false;
            }
            reached = *end;
        }
        self.length == Some(reached)
    }

    fn into_bytes(self) -> Vec<u8> {
        match (self.key.source, self.key.destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut bytes = vec![0; 40];
                bytes.extend_from_slice(&self.content);
                let mut packet = Ipv6Packet::new_unchecked(&mut bytes[..]);
                packet.set_version(6);
                packet.set_payload_len(u16::try_from(self.content.len()).unwrap_or(u16::MAX));
                packet.set_next_header(self.protocol);
                packet.set_hop_limit(64);
                packet.set_src_addr(source);
                packet.set_dst_addr(destination);
                bytes
            }
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut bytes = vec![0; 20];
                bytes.extend_from_slice(&self.content);
                let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
                let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
                packet.set_version(4);
                packet.set_header_len(20);
                packet.set_total_len(length);
                packet.set_hop_limit(64);
                packet.set_next_header(self.protocol);
                packet.set_src_addr(source);
                packet.set_dst_addr(destination);
                bytes
            }
            // One packet has addresses of one version.
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn piece(ident: u16, offset: usize, content: &[u8], more: bool) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        bytes.extend_from_slice(content);
        let length = bytes.len() as u16;
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
        packet.set_version(4);
        packet.set_header_len(20);
        packet.set_total_len(length);
        packet.set_ident(ident);
        packet.set_frag_offset(offset as u16);
        packet.set_more_frags(more);
        packet.set_next_header(IpProtocol::Udp);
        packet.set_src_addr(Ipv4Addr::new(10, 0, 0, 2));
        packet.set_dst_addr(Ipv4Addr::new(1, 1, 1, 1));
        bytes
    }

    fn piece_v6(ident: u32, offset: usize, content: &[u8], more: bool) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        let place = offset as u16 | u16::from(more);
        // What later pieces say of the protocol is not asked.
        bytes.extend([if offset == 0 { 17 } else { 59 }, 0]);
        bytes.extend(place.to_be_bytes());
        bytes.extend(ident.to_be_bytes());
        bytes.extend_from_slice(content);
        let length = bytes.len() as u16 - 40;
        let mut packet = Ipv6Packet::new_unchecked(&mut bytes[..]);
        packet.set_version(6);
        packet.set_payload_len(length);
        packet.set_next_header(IpProtocol::Ipv6Frag);
        packet.set_src_addr(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));
        packet.set_dst_addr(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        bytes
    }

    impl Pieces {
        fn four(&mut self, bytes: &[u8], now: Instant) -> Option<Vec<u8>> {
            self.take(&Piece::v4(bytes).unwrap(), now)
        }

        fn six(&mut self, bytes: &[u8], now: Instant) -> Option<Vec<u8>> {
            self.take(&Piece::v6(bytes).unwrap(), now)
        }
    }

    #[test]
    fn pieces_in_any_order_make_the_packet() {
        let content: Vec<u8> = (0..3_000_u32).map(|n| n as u8).collect();
        let all = [
            piece(7, 0, &content[..1_480], true),
            piece(7, 1_480, &content[1_480..2_960], true),
            piece(7, 2_960, &content[2_960..], false),
        ];
        let now = Instant::now();
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut pieces = Pieces::default();
            assert!(pieces.four(&all[order[0]], now).is_none());
            assert!(
                pieces
                    .four(&piece(8, 0, &content[..8], true), now)
                    .is_none()
            );
            assert!(pieces.four(&all[order[1]], now).is_none());
            let whole = pieces.four(&all[order[2]], now).expect("whole");
            assert_eq!(whole[20..], content);
            let datagram = super::super::frame::datagram(&whole).expect("a packet");
            assert_eq!(datagram.payload, content);
        }
    }

    #[test]
    fn overlaps_bad_lengths_and_old_pieces_make_nothing() {
        let now = Instant::now();
        let mut pieces = Pieces::default();
        pieces.four(&piece(1, 0, &[1; 16], true), now);
        assert!(pieces.four(&piece(1, 8, &[2; 16], false), now).is_none());
        assert!(pieces.0.is_empty(), "an overlap drops all of it");
        assert!(pieces.four(&piece(2, 0, &[1; 9], true), now).is_none());
        assert!(
            pieces.0.is_empty(),
            "a piece that is not the last has whole words"
        );
        assert!(
            pieces
                .four(&piece(3, 65_528, &[1; 64], false), now)
                .is_none()
        );
        assert!(pieces.0.is_empty(), "no packet is that long");
        pieces.four(&piece(4, 8, &[1; 8], false), now);
        assert!(pieces.four(&piece(4, 16, &[1; 8], false), now).is_none());
        assert!(pieces.0.is_empty(), "there is one end");
        pieces.four(&piece(5, 0, &[1; 8], true), now);
        assert!(
            pieces
                .four(&piece(5, 8, &[1; 8], false), now + PATIENCE)
                .is_none()
        );
        for ident in 0..1_000 {
            pieces.four(&piece(ident, 0, &[1; 8], true), now + PATIENCE);
        }
        assert_eq!(pieces.0.len(), MOST);
    }

    #[test]
    fn pieces_of_version_6_make_the_packet_that_the_first_says() {
        let content: Vec<u8> = (0..65_535_u32).map(|n| (n / 9) as u8).collect();
        let now = Instant::now();
        let mut pieces = Pieces::default();
        let mut whole = None;
        for (at, part) in content
            .chunks(1_448)
            .enumerate()
            .collect::<Vec<_>>()
            .iter()
            .rev()
        {
            assert!(whole.is_none());
            let more = (at + 1) * 1_448 < content.len();
            whole = pieces.six(&piece_v6(1 << 20, at * 1_448, part, more), now);
        }
        let whole = whole.expect("whole");
        let datagram = super::super::frame::datagram(&whole).expect("a packet");
        assert_eq!(datagram.payload, content);
        assert_eq!(datagram.protocol, IpProtocol::Udp);
        assert!(pieces.0.is_empty());
    }

    #[test]
    fn what_version_6_forbids_of_pieces_makes_nothing() {
        let now = Instant::now();
        let mut pieces = Pieces::default();
        for (first, second) in [
            // An overlap, also one of the same bytes, and one of the last piece.
            (
                piece_v6(1, 0, &[1; 16], true),
                piece_v6(1, 8, &[1; 16], false),
            ),
            (
                piece_v6(1, 8, &[1; 16], false),
                piece_v6(1, 0, &[1; 16], true),
            ),
            (
                piece_v6(1, 0, &[1; 16], true),
                piece_v6(1, 0, &[1; 16], true),
            ),
            // Content beyond the last piece, in either order.
            (
                piece_v6(1, 8, &[1; 8], false),
                piece_v6(1, 16, &[1; 8], true),
            ),
            (
                piece_v6(1, 16, &[1; 8], true),
                piece_v6(1, 8, &[1; 8], false),
            ),
            // No whole words, no content, too long.
            (
                piece_v6(1, 16, &[1; 8], true),
                piece_v6(1, 0, &[1; 9], true),
            ),
            (piece_v6(1, 16, &[1; 8], true), piece_v6(1, 0, &[], true)),
            (
                piece_v6(1, 0, &[1; 8], true),
                piece_v6(1, 65_528, &[1; 8], false),
            ),
        ] {
            assert!(pieces.six(&first, now).is_none());
            assert!(pieces.six(&second, now).is_none());
            assert!(pieces.0.is_empty(), "all of it is dropped");
        }
        assert!(Piece::v6(&piece_v6(1, 0, &[], true)[..47]).is_none());
    }

    #[test]
    fn a_piece_that_is_all_of_a_packet_has_nothing_to_do_with_others() {
        let now = Instant::now();
        let mut pieces = Pieces::default();
        pieces.six(&piece_v6(1, 0, &[1; 16], true), now);
        let alone = pieces.six(&piece_v6(1, 0, &[2; 5], false), now);
        assert_eq!(alone.expect("whole")[40..], [2; 5]);
        let whole = pieces.six(&piece_v6(1, 16, &[1; 3], false), now);
        assert_eq!(whole.expect("whole")[40..], [1; 19]);
    }

    #[test]
    fn one_that_begins_many_packets_leaves_others_theirs() {
        let now = Instant::now();
        let mut pieces = Pieces::default();
        pieces.six(&piece_v6(1, 0, &[1; 8], true), now);
        for ident in 0..1_000 {
            pieces.four(&piece(ident, 0, &[1; 8], true), now);
        }
        assert!(pieces.six(&piece_v6(1, 8, &[1; 8], false), now).is_some());
        assert!(pieces.four(&piece(999, 8, &[1; 8], false), now).is_some());
    }
}
