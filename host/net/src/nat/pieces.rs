//! Packets of version 4 that come in pieces, put together (RFC 791, section 3.2; RFC 815).
//!
//! Bounded in every way: so many packets at a time, each as long as a packet can be, and none for longer
//! than the time a piece may take. A packet whose pieces overlap is dropped whole (as RFC 5722 has it for
//! version 6): no honest sender makes one.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smoltcp::wire::{IpProtocol, Ipv4Packet};

/// Packets that may be incomplete at a time.
const MOST: usize = 64;
/// How long the pieces of one may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest content of a packet with a header of 20 bytes.
const LONGEST: usize = 65_535 - 20;

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Key {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: IpProtocol,
    ident: u16,
}

#[derive(Debug)]
struct Packet {
    key: Key,
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
    /// Takes a piece, an IP packet whose lengths were checked; gives the whole packet once it is that.
    pub fn take(&mut self, bytes: &[u8], now: Instant) -> Option<Vec<u8>> {
        let piece = Ipv4Packet::new_checked(bytes).ok()?;
        let key = Key {
            source: piece.src_addr(),
            destination: piece.dst_addr(),
            protocol: piece.next_header(),
            ident: piece.ident(),
        };
        let content = bytes.get(usize::from(piece.header_len())..)?;
        let offset = usize::from(piece.frag_offset());
        let end = offset + content.len();
        let last = !piece.more_frags();
        self.0.retain(|packet| now < packet.since + PATIENCE);
        let at = match self.0.iter().position(|packet| packet.key == key) {
            Some(at) => at,
            None => {
                if self.0.len() >= MOST {
                    self.0.pop_front();
                }
                self.0.push_back(Packet::new(key, now));
                self.0.len() - 1
            }
        };
        let packet = self.0.get_mut(at)?;
        let good = end <= LONGEST
            && (last || content.len().is_multiple_of(8))
            && !content.is_empty()
            && packet.add(offset, content, last);
        if !good {
            self.0.remove(at);
            return None;
        }
        if !packet.is_whole() {
            return None;
        }
        self.0.remove(at).map(Packet::into_bytes)
    }
}

impl Packet {
    fn new(key: Key, since: Instant) -> Self {
        Self {
            key,
            since,
            content: Vec::new(),
            there: Vec::new(),
            length: None,
        }
    }

    /// Whether the piece fits to the others.
    fn add(&mut self, offset: usize, content: &[u8], last: bool) -> bool {
        let end = offset + content.len();
        if last && self.length.replace(end).is_some() {
            return false;
        }
        if self.length.is_some_and(|length| end > length) {
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
        let mut bytes = vec![0; 20];
        bytes.extend_from_slice(&self.content);
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
        packet.set_version(4);
        packet.set_header_len(20);
        packet.set_total_len(length);
        packet.set_hop_limit(64);
        packet.set_next_header(self.key.protocol);
        packet.set_src_addr(self.key.source);
        packet.set_dst_addr(self.key.destination);
        bytes
    }
}

#[cfg(test)]
mod tests {
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
            assert!(pieces.take(&all[order[0]], now).is_none());
            assert!(
                pieces
                    .take(&piece(8, 0, &content[..8], true), now)
                    .is_none()
            );
            assert!(pieces.take(&all[order[1]], now).is_none());
            let whole = pieces.take(&all[order[2]], now).expect("whole");
            assert_eq!(whole[20..], content);
            let datagram = super::super::frame::datagram_v4(&whole).expect("a packet");
            assert_eq!(datagram.payload, content);
        }
    }

    #[test]
    fn overlaps_bad_lengths_and_old_pieces_make_nothing() {
        let now = Instant::now();
        let mut pieces = Pieces::default();
        pieces.take(&piece(1, 0, &[1; 16], true), now);
        assert!(pieces.take(&piece(1, 8, &[2; 16], false), now).is_none());
        assert!(pieces.0.is_empty(), "an overlap drops all of it");
        assert!(pieces.take(&piece(2, 0, &[1; 9], true), now).is_none());
        assert!(
            pieces.0.is_empty(),
            "a piece that is not the last has whole words"
        );
        assert!(
            pieces
                .take(&piece(3, 65_528, &[1; 64], false), now)
                .is_none()
        );
        assert!(pieces.0.is_empty(), "no packet is that long");
        pieces.take(&piece(4, 8, &[1; 8], false), now);
        assert!(pieces.take(&piece(4, 16, &[1; 8], false), now).is_none());
        assert!(pieces.0.is_empty(), "there is one end");
        pieces.take(&piece(5, 0, &[1; 8], true), now);
        assert!(
            pieces
                .take(&piece(5, 8, &[1; 8], false), now + PATIENCE)
                .is_none()
        );
        for ident in 0..1_000 {
            pieces.take(&piece(ident, 0, &[1; 8], true), now + PATIENCE);
        }
        assert_eq!(pieces.0.len(), MOST);
    }
}
