//! A door for `tests/fuzz`: frames of a hostile guest, and time and peers beside it, as bytes.
//!
//! A program is steps of an opcode, a length of two bytes (the low one first) and as many bytes of a frame. The
//! router must answer the gateway's echo after all of it. What would go out to the world goes to sockets of this
//! door instead: nothing but this process' own is reached.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use lighter_protocol::link;
use mio::{Events, Poll};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet};
use socket2::SockRef;

use super::frame::ETHERNET;
use super::plan::{Plan, Target};
use super::{Counts, Limits, Nat, Outgoing, Wire};

/// More steps add nothing but time.
const STEPS: usize = 64;
/// Connections that the peer holds at a time.
const HELD: usize = 8;

/// The frame is sent as a step says, with the numbers of TCP that the router waits for.
const IN_ORDER: u8 = 1;
/// Its destination has no listener.
const CLOSED: u8 = 2;
/// The guest has no room for answers.
const FULL: u8 = 4;
/// The peers write before it.
const PEERS_WRITE: u8 = 8;
/// The peers close before it.
const PEERS_CLOSE: u8 = 16;
/// The clock moves on by half a minute before it.
const LATER: u8 = 32;
/// The frame has a virtio header before it, which is skipped as the device does.
const VIRTIO: u8 = 64;
/// The length of that (virtio 1.2, section 5.1.6).
const VIRTIO_HEADER: usize = 12;

/// The guest's end of the link: what the router said of TCP last.
#[derive(Default)]
struct Guest {
    full: bool,
    frames: usize,
    /// The number after the last that the router sent, and the one that it waits for.
    next: [[u8; 4]; 2],
}

impl Wire for Guest {
    fn send(&mut self, frame: &Outgoing<'_>) -> bool {
        if self.full {
            return false;
        }
        self.frames += 1;
        let head = EthernetFrame::new_unchecked(frame.head);
        let at = ETHERNET
            + if head.ethertype() == EthernetProtocol::Ipv4 {
                20
            } else {
                40
            };
        let protocol = frame.head.get(if at == ETHERNET + 20 { 23 } else { 20 });
        if protocol == Some(&u8::from(IpProtocol::Tcp))
            && let Some(&[_, _, _, _, a, b, c, d, e, f, g, h, _, flags, ..]) = frame.head.get(at..)
        {
            let content = frame.content[0].len() + frame.content[1].len();
            // SYN and FIN take a number each.
            let length = content as u32 + u32::from(flags & 1) + u32::from(flags >> 1 & 1);
            let sent = u32::from_be_bytes([a, b, c, d]).wrapping_add(length);
            self.next = [sent.to_be_bytes(), [e, f, g, h]];
        }
        true
    }
}

/// Who is behind the router.
struct Peers {
    listener: TcpListener,
    datagrams: UdpSocket,
    held: Vec<TcpStream>,
}

impl Peers {
    fn new() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let datagrams = UdpSocket::bind(listener.local_addr()?)?;
        listener.set_nonblocking(true)?;
        datagrams.set_nonblocking(true)?;
        Ok(Self {
            listener,
            datagrams,
            held: Vec::new(),
        })
    }

    fn turn(&mut self, opcode: u8) {
        let mut buffer = [0; 4_096];
        if opcode & PEERS_CLOSE != 0 {
            self.held.clear();
        }
        while let Ok((stream, _)) = self.listener.accept() {
            if self.held.len() < HELD && stream.set_nonblocking(true).is_ok() {
                self.held.push(stream);
            }
        }
        for stream in &mut self.held {
            // Closed or full is as good as read and written.
            let _ = stream.read(&mut buffer);
            if opcode & PEERS_WRITE != 0 {
                let _ = stream.write(&buffer);
            }
        }
        while let Ok((length, from)) = self.datagrams.recv_from(&mut buffer) {
            let _ = self.datagrams.send_to(&buffer[..length], from);
        }
    }

    /// Nothing of a program is left for the next; the ports of its connections are free at once.
    fn forget(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            self.held.push(stream);
        }
        for stream in self.held.drain(..) {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        while self.datagrams.recv_from(&mut []).is_ok() {}
    }
}

/// What is made once for a thread, since sockets take longer than the programs.
struct Door {
    poll: Poll,
    events: Events,
    peers: Peers,
    open: SocketAddr,
}

impl Door {
    /// Nothing when the system gives no sockets.
    fn new() -> std::io::Result<Self> {
        let peers = Peers::new()?;
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(64),
            open: peers.listener.local_addr()?,
            peers,
        })
    }
}

thread_local! {
    static DOOR: RefCell<Option<Door>> = RefCell::new(Door::new().ok());
}

/// Runs one program.
///
/// # Panics
///
/// If the router does not answer any more; the sockets of the door themselves are there or nothing is run.
pub fn run(bytes: &[u8]) {
    DOOR.with_borrow_mut(|door| {
        let Some(door) = door else { return };
        let Ok(mut nat) = Nat::new(Plan::default(), Limits::default(), &door.poll) else {
            return;
        };
        play(door, &mut nat, bytes);
        door.peers.forget();
    });
}

fn play(door: &mut Door, nat: &mut Nat, mut bytes: &[u8]) {
    nat.set_names(vec![door.open]);
    let (mut guest, mut now) = (Guest::default(), Instant::now());
    for _ in 0..STEPS {
        let Some((&[opcode, low, high], rest)) = bytes.split_first_chunk() else {
            break;
        };
        let (frame, rest) =
            rest.split_at(usize::from(u16::from_le_bytes([low, high])).min(rest.len()));
        bytes = rest;
        let skipped = if opcode & VIRTIO == 0 {
            0
        } else {
            VIRTIO_HEADER
        };
        let mut frame = frame.get(skipped..).unwrap_or_default().to_vec();
        if opcode & LATER != 0 {
            now += Duration::from_secs(30);
        }
        guest.full = opcode & FULL != 0;
        if has_sockets(nat, &door.peers) {
            door.peers.turn(opcode);
        }
        let port = if opcode & CLOSED == 0 {
            door.open.port()
        } else {
            1
        };
        aim(
            &mut frame,
            port,
            (opcode & IN_ORDER != 0).then_some(guest.next),
        );
        nat.receive(&frame, &mut guest, now);
        nat.flush(!guest.full, &mut guest, now);
        if has_sockets(nat, &door.peers)
            && door
                .poll
                .poll(&mut door.events, Some(Duration::ZERO))
                .is_ok()
        {
            for event in &door.events {
                nat.stirred(event, &mut guest, now);
            }
        }
        nat.flush(!guest.full, &mut guest, now);
    }
    guest.full = false;
    let before = guest.frames;
    nat.receive(&echo(), &mut guest, now);
    assert!(guest.frames > before, "the router does not answer");
}

/// Whether there is anybody to be asked: what nobody is connected to has nothing new.
fn has_sockets(nat: &Nat, peers: &Peers) -> bool {
    nat.counts() != Counts::default() || !peers.held.is_empty()
}

/// Turns what would leave this process to the door's sockets; and, where `numbers` are given, sets those of TCP.
fn aim(frame: &mut [u8], port: u16, numbers: Option<[[u8; 4]; 2]>) {
    let Ok(mut frame) = EthernetFrame::new_checked(frame) else {
        return;
    };
    let kind = frame.ethertype();
    let (protocol, ends) = match kind {
        EthernetProtocol::Ipv4 => {
            let Ok(mut packet) = Ipv4Packet::new_checked(frame.payload_mut()) else {
                return;
            };
            if is_far(packet.dst_addr().into()) {
                packet.set_dst_addr(link::HOST_V4);
            }
            // The others' pieces have no ports.
            let first = packet.frag_offset() == 0;
            (
                packet.next_header(),
                first.then(|| usize::from(packet.header_len())),
            )
        }
        EthernetProtocol::Ipv6 => {
            let Ok(mut packet) = Ipv6Packet::new_checked(frame.payload_mut()) else {
                return;
            };
            // The door's peers speak IPv4; what goes to the host's other loopback finds nobody.
            if is_far(packet.dst_addr().into()) {
                packet.set_dst_addr(link::HOST_V6);
            }
            match (packet.next_header(), &*packet.payload_mut()) {
                (IpProtocol::Ipv6Frag, [protocol, _, high, low, ..]) => {
                    let first = u16::from_be_bytes([*high, *low]) & !7 == 0;
                    (IpProtocol::from(*protocol), first.then_some(48))
                }
                (protocol, _) => (protocol, Some(40)),
            }
        }
        _ => return,
    };
    let Some(segment) = ends.and_then(|at| frame.payload_mut().get_mut(at..)) else {
        return;
    };
    // Of the ports of a gateway one is for names: that one stays.
    if matches!(protocol, IpProtocol::Tcp | IpProtocol::Udp)
        && let Some(to) = segment.get_mut(2..4)
        && *to != [0, 53]
    {
        let port = if kind == EthernetProtocol::Ipv4 {
            port
        } else {
            1
        };
        to.copy_from_slice(&port.to_be_bytes());
    }
    if let (IpProtocol::Tcp, Some([sent, awaited])) = (protocol, numbers)
        && let Some(at) = segment.get_mut(4..12)
    {
        at.copy_from_slice(&[awaited, sent].concat());
    }
}

/// Whether a packet to there would leave this process.
fn is_far(address: IpAddr) -> bool {
    matches!(
        Plan::default().target(SocketAddr::new(address, 1)),
        Target::Remote(_)
    )
}

/// A guest's echo request to the gateway.
fn echo() -> Vec<u8> {
    let mut bytes = vec![0; ETHERNET + 28];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    frame.set_ethertype(EthernetProtocol::Ipv4);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    packet.set_version(4);
    packet.set_header_len(20);
    packet.set_total_len(28);
    packet.set_next_header(IpProtocol::Icmp);
    packet.set_src_addr(link::GUEST_V4);
    packet.set_dst_addr(link::GATEWAY_V4);
    packet.payload_mut()[0] = 8;
    bytes
}
