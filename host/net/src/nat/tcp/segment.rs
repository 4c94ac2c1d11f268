//! Segments of TCP: read from the guest, written to it.

use std::net::SocketAddr;

use smoltcp::wire::{IpProtocol, TcpControl, TcpPacket, TcpSeqNumber};

use super::super::frame::{self, Datagram, ETHERNET, LONGEST_HEAD, Offload, Outgoing, Wire};
use super::super::plan::Plan;

/// The two ends of a connection, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The guest's.
    pub guest: SocketAddr,
    /// The other.
    pub remote: SocketAddr,
}

/// A segment of the guest.
#[derive(Debug)]
pub struct Segment<'a> {
    /// Of which connection.
    pub ends: Ends,
    /// Its first number.
    pub sequence: u32,
    /// Up to where the guest has everything, if it says so.
    pub acknowledged: Option<u32>,
    /// How much more it would take, before scaling.
    pub window: u16,
    /// It begins a connection.
    pub syn: bool,
    /// It is the last.
    pub fin: bool,
    /// It gives up.
    pub rst: bool,
    /// Bytes of content a segment may have, where it says so.
    pub mss: Option<u16>,
    /// By how many bits its windows are to be shifted, where it says so.
    pub window_shift: Option<u8>,
    /// Its content.
    pub content: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads one. Its checksum is the guest's device's business.
    pub fn parse(datagram: &Datagram<'a>) -> Option<Self> {
        let packet = frame::tcp(datagram)?;
        let [guest, remote] = frame::ends(datagram, packet.src_port(), packet.dst_port());
        let mut segment = Segment {
            ends: Ends { guest, remote },
            sequence: packet.seq_number().0.cast_unsigned(),
            acknowledged: packet.ack().then(|| packet.ack_number().0.cast_unsigned()),
            window: packet.window_len(),
            syn: packet.syn(),
            fin: packet.fin(),
            rst: packet.rst(),
            mss: None,
            window_shift: None,
            content: datagram
                .payload
                .get(usize::from(packet.header_len())..)
                .unwrap_or_default(),
        };
        if segment.syn {
            segment.read_options(packet.options());
        }
        Some(segment)
    }

    fn read_options(&mut self, mut options: &[u8]) {
        use smoltcp::wire::TcpOption;
        while !options.is_empty() {
            let Ok((rest, option)) = TcpOption::parse(options) else {
                return;
            };
            match option {
                TcpOption::EndOfList => return,
                TcpOption::MaxSegmentSize(size) => self.mss = Some(size),
                // RFC 7323, section 2.3: more than 14 is taken as 14.
                TcpOption::WindowScale(shift) => self.window_shift = Some(shift.min(14)),
                _ => {}
            }
            options = rest;
        }
    }

    /// How many numbers it takes.
    pub fn length(&self) -> u32 {
        self.content.len() as u32 + u32::from(self.syn) + u32::from(self.fin)
    }
}

/// What a segment to the guest says besides its content.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Of which connection.
    pub ends: Ends,
    /// Its first number.
    pub sequence: u32,
    /// Up to where we have everything.
    pub acknowledged: Option<u32>,
    /// How much more we would take, scaled down already.
    pub window: u16,
    /// What else it is.
    pub control: TcpControl,
    /// For the first: bytes of content a segment may have, and the shift of our windows.
    pub options: Option<(u16, Option<u8>)>,
}

/// Sends a segment; false if the guest has no room for it now. Content longer than `mss` goes as one frame
/// that the guest takes for several.
pub fn send(wire: &mut dyn Wire, plan: &Plan, head: &Head, content: [&[u8]; 2], mss: u16) -> bool {
    let mut options = [0_u8; 8];
    let options = match head.options {
        None => &options[..0],
        Some((size, shift)) => {
            let size = size.to_be_bytes();
            options[..4].copy_from_slice(&[2, 4, size[0], size[1]]);
            match shift {
                None => &options[..4],
                Some(shift) => {
                    options[4..].copy_from_slice(&[1, 3, 3, shift]);
                    &options[..]
                }
            }
        }
    };
    let length = content[0].len() + content[1].len();
    let header = 20 + options.len();
    let addresses = [head.ends.remote.ip(), head.ends.guest.ip()];
    let mut out = [0_u8; LONGEST_HEAD];
    let start = frame::write_ip(&mut out, plan, addresses, IpProtocol::Tcp, header + length);
    let mut packet = TcpPacket::new_unchecked(&mut out[start..start + header]);
    packet.set_src_port(head.ends.remote.port());
    packet.set_dst_port(head.ends.guest.port());
    packet.set_seq_number(number(head.sequence));
    packet.set_ack_number(number(head.acknowledged.unwrap_or(0)));
    packet.clear_flags();
    packet.set_header_len(header as u8);
    packet.set_ack(head.acknowledged.is_some());
    match head.control {
        TcpControl::None => {}
        TcpControl::Psh => packet.set_psh(true),
        TcpControl::Syn => packet.set_syn(true),
        TcpControl::Fin => packet.set_fin(true),
        TcpControl::Rst => packet.set_rst(true),
    }
    packet.set_window_len(head.window);
    packet.set_urgent_at(0);
    packet.options_mut().copy_from_slice(options);
    packet.set_checksum(frame::pseudo_sum(
        addresses,
        IpProtocol::Tcp,
        header + length,
    ));
    let (start, offset) = (start as u16, 16);
    let offload = if length > usize::from(mss) {
        Offload::Segments {
            start,
            offset,
            size: mss,
            v6: start as usize == ETHERNET + 40,
        }
    } else {
        Offload::Checksum { start, offset }
    };
    wire.send(&Outgoing {
        head: &out[..usize::from(start) + header],
        content,
        offload,
    })
}

/// Answers a segment of no connection, so that the guest gives it up (RFC 9293, section 3.10.7.1).
pub fn refuse(wire: &mut dyn Wire, plan: &Plan, segment: &Segment<'_>) {
    if segment.rst {
        return;
    }
    let (sequence, acknowledged) = match segment.acknowledged {
        Some(number) => (number, None),
        None => (0, Some(segment.sequence.wrapping_add(segment.length()))),
    };
    let head = Head {
        ends: segment.ends,
        sequence,
        acknowledged,
        window: 0,
        control: TcpControl::Rst,
        options: None,
    };
    // A guest without room asks again.
    send(wire, plan, &head, [&[], &[]], u16::MAX);
}

/// As the wire has it.
pub fn number(number: u32) -> TcpSeqNumber {
    TcpSeqNumber(number.cast_signed())
}
